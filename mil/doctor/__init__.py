"""`mil doctor`: everything that can go wrong with slides and weights, looked at before any GPU time."""
