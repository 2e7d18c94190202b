"""Recipes: the files of configs/heads."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from mil.config.base import Name, Section, checked, config_path, named_file, read_yaml
from mil.errors import ConfigError, unknown_name

# The functions of mil/losses/terms.py, named here so that a recipe is checked before anything
# runs; a test compares them.
LOSS_TERMS = (
    "cross_entropy",
    "branch_cross_entropy",
    "branch_diversity",
    "attention_entropy",
    "attention_entropy_share",
    "instance_cross_entropy",
    "full_cross_entropy",
    "sufficiency",
    "teacher_consistency",
)


class LossWeight(Section):
    """Weight of a loss term, constant or annealed along half a cosine."""

    start: float = Field(ge=0, description="weight at the first step")
    end: float | None = Field(None, ge=0, description="weight at the last step; empty: constant")


def _weight(value: Any) -> Any:
    return {"start": value} if isinstance(value, int | float) else value


class TrainConfig(Section):
    """How a head is trained."""

    epochs: int = Field(50, gt=0, description="times that every training bag is seen")
    batch_bags: int = Field(
        1, gt=0, description="bags laid end to end, which go through the head together"
    )
    accumulate: int = Field(
        1,
        gt=0,
        description="such batches per step: their gradients are added up, as if their bags were one batch",
    )
    lr: float = Field(
        1e-4, gt=0, description="at the start; a cosine to min_lr follows, step by step"
    )
    min_lr: float = Field(0.0, ge=0, description="learning rate at the end")
    warmup_epochs: float = Field(0.0, ge=0, description="the learning rate rises from 0 this long")
    weight_decay: float = Field(1e-5, ge=0, description="of AdamW")
    clip_norm: float | None = Field(
        None, gt=0, description="longest gradient, over all parameters; empty: any"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: a bag counts the more in the losses, the rarer its class is in training",
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="order of an epoch: each bag once, or each class equally often"
    )
    max_tiles: int | None = Field(
        None,
        gt=0,
        description="tiles of a bag that a training step sees, drawn anew each time; empty: all",
    )
    feature_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the features' dimensions zeroed in a whole bag, drawn at each step",
    )
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="of the matrix products in training; auto: bf16 where the processor has instructions for it; fp16: "
        "on a GPU alone, the loss scaled. Parameters, scores, softmax, losses and optimiser are "
        "fp32 in any case",
    )
    select: Literal["loss", "f1_auc", "last"] = Field(
        "loss",
        description="which epoch is kept: least validation loss, largest macro-F1 + AUROC, or the last",
    )
    patience: int | None = Field(
        None,
        gt=0,
        description="stop after so many epochs in a row without a better one, by `select`; the learning rate still "
        "falls as if there were `epochs`; empty: never",
    )

    @field_validator("patience")
    @classmethod
    def _waits_for_a_score(cls, patience: int | None, others: ValidationInfo) -> int | None:
        if patience is not None and others.data.get("select") == "last":
            raise ValueError("must be empty where select is last")
        return patience


class Recipe(Section):
    """One file of configs/heads: a head, its options, the weights of its losses, and how it is trained."""

    name: Name = Field(description="a file of mil/heads, or a head that another package plugs in")
    options: dict[str, Any] = Field({}, description="what the head's `Config` allows")
    losses: dict[str, Annotated[LossWeight, BeforeValidator(_weight)]] = Field(min_length=1)
    train: TrainConfig = Field(TrainConfig(), description="how it is trained")
    source: str = Field("", description="where the settings are from")


PLUG = "mil.heads"  # the entry points by which other packages add heads; their values are modules


def own_heads() -> list[str]:
    """The heads that come with mil: the files of mil/heads."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "heads").glob("[a-z]*.py"))


def plugged_heads() -> dict[str, EntryPoint]:
    """The heads of other packages, by name; nothing of them is imported. Of two with one name, the first."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=PLUG):
        found.setdefault(entry.name, entry)
    return found


def package_of(entry: EntryPoint) -> str:
    """The package that a plugged-in head comes from, as pip calls it."""
    return entry.dist.name if entry.dist else entry.value.partition(".")[0]


def head_names() -> list[str]:
    """Names a recipe may use. Known without importing the heads, which would import torch."""
    return sorted({*own_heads(), *plugged_heads()})


def check_head(name: str) -> EntryPoint | None:
    """Whether a name means exactly one head.

    Returns:
        Where it is plugged in; None: it is one of ours.

    Raises:
        ConfigError: there is none, or several have that name.
    """
    entries = list(entry_points(group=PLUG, name=name))
    owners = ["mil"] * (name in own_heads()) + [package_of(entry) for entry in entries]
    if not owners:
        raise ConfigError(unknown_name("head", name, head_names()))
    if len(owners) > 1:
        raise ConfigError(
            f"head {name} is in {' and in '.join(owners)}; rename it in {owners[-1]} (entry "
            f"point of {PLUG}), or "
            f"uninstall that package"
        )
    return entries[0] if entries else None


def recipe_files() -> dict[str, Path]:
    """All recipes by name: those of ./configs/heads go before those that came with mil."""
    shipped = Path(__file__).resolve().parents[2] / "configs/heads"
    return {
        path.stem: path
        for folder in (shipped, config_path("heads"))
        for path in sorted(folder.glob("*.yaml"))
    }


def recipe_path(name: str) -> Path:
    """The file of a recipe, given its name or its path."""
    return named_file("heads", name, "head recipe")


def load_recipe(name: str) -> Recipe:
    """One recipe of configs/heads, by name or by path."""
    path = recipe_path(name)
    recipe = checked(Recipe, read_yaml(path), str(path))
    try:
        check_head(recipe.name)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    for term in recipe.losses:
        if term not in LOSS_TERMS:
            raise ConfigError(f"{path}: {unknown_name('loss term', term, LOSS_TERMS)}")
    return recipe
