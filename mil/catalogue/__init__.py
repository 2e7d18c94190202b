"""`mil heads list|show` and `mil encoders list|show`: the heads, recipes and encoders there are."""
