"""Datasets: a user's own slides made into one, and what to say when a dataset's slides are not there."""
