"""Stage `compare`: heads and encoders of a run beside one another, and whether they differ."""
