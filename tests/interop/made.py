"""Trained heads that the tests make, with random weights."""

from pathlib import Path
from typing import Any

import torch

from mil.config import Recipe
from mil.heads import build_head
from mil.tasks import Classification
from mil.trained import Trained, save_trained


def make(folder: Path, name: str = "abmil", seed: int = 1, **changes: Any) -> Path:
    """Write the folder of a head for features of 12 numbers."""
    torch.manual_seed(seed)
    options = {"hidden": 8}
    said = {
        "recipe_name": name, "recipe": Recipe(name=name, options=options, losses={"cross_entropy": 1}), "seed": seed,
        "encoder": "tiny", "weights_sha256": "0" * 64, "tiling": "64px_0.5mpp", "dim": 12, "dataset": "d", "fold": 0,
        "task": Classification(classes=["normal", "tumour"], positive="tumour"), "epoch": 1,
    }  # fmt: skip
    weights = build_head(name, options, dim=12, classes=2).state_dict()
    save_trained(folder, Trained(**{**said, **changes}), weights, {}, last=weights)
    return folder
