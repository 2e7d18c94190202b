"""Recipes: the files of configs/heads."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mil.config.base import Name, Section, checked, named_file, read_yaml
from mil.errors import ConfigError, unknown_name

# The functions of mil/losses.py, named here so that a recipe is checked before anything runs; a test compares them.
LOSS_TERMS = (
    "cross_entropy", "branch_cross_entropy", "branch_diversity", "attention_entropy", "attention_entropy_share",
    "instance_cross_entropy", "full_cross_entropy", "sufficiency", "teacher_consistency",
)  # fmt: skip


class LossWeight(Section):
    """Weight of a loss term, constant or annealed along half a cosine."""

    start: float = Field(ge=0, description="weight at the first step")
    end: float | None = Field(None, ge=0, description="weight at the last step; empty: constant")


def _weight(value: Any) -> Any:
    return {"start": value} if isinstance(value, int | float) else value


class TrainConfig(Section):
    """How a head is trained."""

    epochs: int = Field(50, gt=0)
    batch_bags: int = Field(1, gt=0, description="bags per step, laid end to end")
    lr: float = Field(1e-4, gt=0, description="at the start; a cosine to min_lr follows, step by step")
    min_lr: float = Field(0.0, ge=0)
    warmup_epochs: float = Field(0.0, ge=0)
    weight_decay: float = Field(1e-5, ge=0)
    clip_norm: float | None = Field(None, gt=0, description="longest gradient, over all parameters; empty: any")
    select: Literal["loss", "f1_auc", "last"] = Field(
        "loss",
        description="which epoch is kept: least validation loss, largest macro-F1 + AUROC, or the last",
    )


class Recipe(Section):
    """One file of configs/heads: a head, its options, the weights of its losses, and how it is trained."""

    name: Name = Field(description="a file of mil/heads")
    options: dict[str, Any] = Field({}, description="what the head's `Config` allows")
    losses: dict[str, Annotated[LossWeight, BeforeValidator(_weight)]] = Field(min_length=1)
    train: TrainConfig = Field(TrainConfig(), description="how it is trained")
    source: str = Field("", description="where the settings are from")


def head_names() -> list[str]:
    """Names a recipe may use: the files of mil/heads. Known without importing them, which would import torch."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "heads").glob("[a-z]*.py"))


def recipe_path(name: str) -> Path:
    """The file of a recipe, given its name or its path."""
    return named_file("heads", name, "head recipe")


def load_recipe(name: str) -> Recipe:
    """One recipe of configs/heads, by name or by path."""
    path = recipe_path(name)
    recipe = checked(Recipe, read_yaml(path), str(path))
    if recipe.name not in head_names():
        raise ConfigError(f"{path}: {unknown_name('head', recipe.name, head_names())}")
    for term in recipe.losses:
        if term not in LOSS_TERMS:
            raise ConfigError(f"{path}: {unknown_name('loss term', term, LOSS_TERMS)}")
    return recipe
