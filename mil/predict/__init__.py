"""New slides to answers and heatmaps in one command."""
