"""Patch encoders: their weights, how they are built, and how they compute."""
