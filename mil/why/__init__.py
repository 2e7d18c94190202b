"""`mil why`: how a result came about, from what the files themselves state."""
