"""Operations over bags of any length: a folder each, with its meaning, its fast form and the choice between them."""
