"""Operations over bags of any length, one folder each; see README.md in this folder."""
