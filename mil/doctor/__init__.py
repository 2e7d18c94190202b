"""Command `doctor`: faults of slides and weights, before any GPU time is spent."""
