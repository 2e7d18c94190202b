"""Trained heads: the folder of one, its checksums, its model card, and whether it fits a bag."""

from mil.trained.folder import (
    Applied,
    Calibration,
    Trained,
    answers,
    applied,
    apply,
    find_heads,
    load_heads,
    load_trained,
    save_trained,
)

__all__ = [
    "Applied",
    "Calibration",
    "Trained",
    "answers",
    "applied",
    "apply",
    "find_heads",
    "load_heads",
    "load_trained",
    "save_trained",
]
