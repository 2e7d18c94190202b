"""Finer maps: the attended region of a slide read again with overlapping tiles."""
