"""Functions for notebooks and scripts, offered as `mil.NAME`: thin wrappers of stages."""
