"""Fetching slides that a slide table names by URL."""
