"""Trained heads with random weights, as tests need them."""

from pathlib import Path
from typing import Any

import torch

from mil.config import Recipe
from mil.heads import build_head, head_module
from mil.tasks import Classification
from mil.trained import Trained, save_trained


def make(folder: Path, name: str = "abmil", seed: int = 1, **changes: Any) -> Path:
    """Write the folder of a head that takes 12 features per tile.

    Args:
        folder: folder for the head.
        name: name of the head, and of its recipe.
        seed: random seed of the weights.
        changes: fields of `Trained` that differ from the usual ones.
    """
    torch.manual_seed(seed)
    # Linear probes have no width of their own.
    has_hidden = "hidden" in head_module(name).Config.model_fields
    options = {"hidden": 8} if has_hidden else {}
    usual = {
        "recipe_name": name,
        "recipe": Recipe(name=name, options=options, losses={"cross_entropy": 1}),
        "encoder": "tiny",
        "weights_sha256": "0" * 64,
        "tiling": "64px_0.5mpp",
        "dim": 12,
        "task": Classification(classes=["normal", "tumour"], positive="tumour"),
        "dataset": "d",
        "seed": seed,
        "fold": 0,
        "epoch": 1,
    }
    weights = build_head(name, options, dim=12, classes=2).state_dict()
    save_trained(folder, Trained(**{**usual, **changes}), weights, {}, last=weights)
    return folder
