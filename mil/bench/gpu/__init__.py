"""`mil bench gpu`: proves and times everything on a GPU, the most important figures first.

Each part is a file: a generator of rows, which are written as they come. A part that fails
is a row, not the end.
"""
