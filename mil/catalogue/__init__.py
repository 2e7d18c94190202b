"""Catalogue of what a run can use: recipes, heads and encoders, listed and described."""
