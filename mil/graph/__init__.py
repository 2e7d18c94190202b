"""Neighbour graphs over the tiles of a bag."""
