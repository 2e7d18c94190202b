"""`mil crate`: a study's results described as an RO-Crate."""
