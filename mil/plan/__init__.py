"""Files and settings of a run, known before it starts: no torch, no slide is opened."""
