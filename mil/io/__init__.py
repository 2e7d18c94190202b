"""Files in and out: slides, tiles, bags, tables, annotations, heads. Knows files only."""
