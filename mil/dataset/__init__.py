"""Command `dataset`: a dataset (yaml and slide table) made of a user's own slides."""
