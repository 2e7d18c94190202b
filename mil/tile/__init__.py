"""Tile a slide: find tissue, lay tiles over it, measure their quality."""
