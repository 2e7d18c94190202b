"""Stage `heatmap`: scores and an overview give a picture, a QuPath layer and a table."""
