"""Functions for notebooks and scripts: thin wrappers of the stages, offered as `mil.NAME`."""
