"""Command `doctor`: faults of slides and weights, found before any GPU time is spent."""
