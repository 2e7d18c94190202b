"""Tiles of a slide as images: those that a head attends to, or any others."""
