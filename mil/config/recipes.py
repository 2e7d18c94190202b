"""Recipes: a head, its options, losses and training; one file each in configs/heads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from mil.config.base import SHIPPED, Name, Section, checked, config_path, named_file
from mil.config.yaml_file import read_yaml
from mil.errors import ConfigError, unknown_name

# The functions of mil/losses/terms.py, typed out here because that module imports torch
# and a recipe is checked before anything runs; a test compares the two.
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
    "head_balance",
)


class LossWeight(Section):
    """Weight of a loss term, constant or annealed along half a cosine."""

    start: float = Field(ge=0, description="Weight at the first training step.")
    end: float | None = Field(
        None, ge=0, description="Weight at the last training step; if unset, constant."
    )


def _constant_as_weight(value: Any) -> Any:
    """Let a recipe write `cross_entropy: 1` for `cross_entropy: {start: 1}`."""
    return {"start": value} if isinstance(value, int | float) else value


def _auto_as_section(value: Any) -> Any:
    """Let a recipe write `train: auto` for `train: {auto: true}`."""
    return {"auto": True} if value == "auto" else value


class TrainConfig(Section):
    """Settings of a head's training."""

    # An option that is off changes no bit of a trained head.
    epochs: int = Field(
        50, gt=0, le=100_000, description="Number of passes over the training bags."
    )
    # One bag a step, as in the published codes; planned recipes train on four.
    batch_bags: int = Field(
        1, gt=0, description="Number of bags in a batch; their tiles are concatenated, not padded."
    )
    accumulate: int = Field(
        1, gt=0, description="Number of batches whose gradients are summed for one optimiser step."
    )
    lr: float = Field(
        1e-4,
        gt=0,
        description="Learning rate after warm-up; it falls along a cosine to `min_lr`, step by "
        "step.",
    )
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the last step.")
    warmup_epochs: float = Field(
        0.0, ge=0, description="Length of the linear rise of the learning rate from 0, in epochs."
    )
    weight_decay: float = Field(1e-5, ge=0, description="Weight decay of AdamW.")
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="Largest norm of the gradient of all parameters; if unset, it is not clipped.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="Weights of the bags in the losses; balanced: in inverse proportion to the "
        "frequency of their class in training.",
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle",
        description="Bags of an epoch; shuffle: each bag once; balanced: each class equally often.",
    )
    max_tiles: int | None = Field(
        None,
        gt=0,
        description="Largest number of tiles of a bag in a training step, sampled at each step; "
        "if unset, all tiles.",
    )
    feature_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the feature dimensions set to zero in all tiles of a bag, "
        "sampled at each step.",
    )
    # bf16 is twice as fast and gave the same tables within seeds, but by default
    # results must not depend on the processor that a study met (docs/decisions).
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="Precision of the matrix products in training; auto: bf16 where the processor "
        "has instructions for it; fp16: on a GPU only, with loss scaling. Parameters, scores, "
        "softmax, losses and optimiser are fp32 in any case.",
    )
    # ACMIL's code selects by f1_auc until October 2024, by f1_micro_auc since then
    # (its torchmetrics' default is micro). Of equal epochs the first is kept.
    select: Literal["loss", "f1_auc", "f1_micro_auc", "last"] = Field(
        "loss",
        description="Epoch that is kept; loss: smallest validation loss; f1_auc: largest macro-F1 "
        "+ AUROC; f1_micro_auc: largest micro-F1 + AUROC; last: the last.",
    )
    patience: int | None = Field(
        None,
        gt=0,
        description="Number of epochs without improvement of `select` after which training "
        "stops; the learning rate still falls as if for `epochs`; if unset, training never stops "
        "early.",
    )

    restarts: int = Field(
        1,
        gt=0,
        le=1000,
        description="Number of trainings from different initialisations; the one of least "
        "validation loss is kept.",
    )
    keep_within: float = Field(
        0.0,
        ge=0,
        description="Margin above the least validation loss, nats, within which other restarts "
        "are kept too and averaged; 0: only the best is kept.",
    )
    # 1 would leave nothing to train on, and is refused below.
    inner_folds: int = Field(
        0,
        ge=0,
        le=1000,
        description="Number of parts into which training and validation slides are divided "
        "together; heads are trained without each part, validated on it, and averaged; 0: the "
        "validation slides of the fold.",
    )
    zscore: bool = Field(
        False,
        description="Standardisation of features by mean and standard deviation of the training "
        "tiles.",
    )
    whiten: int | None = Field(
        None,
        gt=0,
        description="Number of principal components of the training tiles to which features are "
        "reduced, each scaled to variance 1; if unset, features are used as they are.",
    )
    # Another head's features are scaled as that head scales them: `mil.train.initial`.
    init: str = Field(
        "",
        description="Folder of a trained head of the same encoder, whose weights training starts "
        "from; its classifier too where the classes are the same; if empty, from random weights.",
    )
    init_frozen: bool = Field(
        False,
        description="Training of the classifier alone; all other weights stay those of `init`.",
    )
    auto: bool = Field(
        False,
        description="Planning of all settings that the recipe does not write, from facts about the "
        "training and validation slides; `train: auto` stands for `train: {auto: true}`.",
    )

    @property
    def scales_features(self) -> bool:
        """Whether features are scaled before a head, by what is saved with it."""
        return self.zscore or self.whiten is not None

    def scaled_dim(self, dim: int) -> int:
        """Number of features per tile after scaling.

        Args:
            dim: Number of features per tile of the bags.
        """
        return dim if self.whiten is None else min(self.whiten, dim)

    @model_validator(mode="after")
    def _scales_once(self) -> Self:
        if self.zscore and self.whiten is not None:
            raise ValueError("zscore and whiten: choose one; whitened features are standardised")
        return self

    @model_validator(mode="after")
    def _freezes_what_exists(self) -> Self:
        if self.init_frozen and not self.init:
            raise ValueError("init_frozen: needs init, the head whose weights stay fixed")
        return self

    @field_validator("inner_folds")
    @classmethod
    def _leaves_slides_to_train_on(cls, inner_folds: int) -> int:
        if inner_folds == 1:
            raise ValueError("must be 0, or 2 or more")
        return inner_folds

    @field_validator("patience")
    @classmethod
    def _waits_for_a_score(cls, patience: int | None, info: ValidationInfo) -> int | None:
        if patience is not None and info.data.get("select") == "last":
            raise ValueError("must be empty where select is last")
        return patience


class Recipe(Section):
    """One file of configs/heads.

    A head, its options, the weights of its losses, and how it is trained.
    """

    name: Name = Field(
        description="Name of a head: a file of mil/heads, or a plug-in of another package."
    )
    options: dict[str, Any] = Field({}, description="Options of the head, as its `Config` defines.")
    losses: dict[str, Annotated[LossWeight, BeforeValidator(_constant_as_weight)]] = Field(
        min_length=1, description="Weight of each loss term, by its name in mil/losses/terms.py."
    )
    train: Annotated[TrainConfig, BeforeValidator(_auto_as_section)] = Field(
        TrainConfig(), description="Settings of the training; auto: planned from the cohort."
    )
    source: str = Field("", description="Publication or code that the settings were taken from.")


# Group of entry points by which other packages add heads; the value of each is a
# module.
PLUGIN_GROUP = "mil.heads"


def own_heads() -> list[str]:
    """Names of the heads that come with mil: the files of mil/heads."""
    # A leading underscore marks parts that several heads share.
    return sorted(path.stem for path in (Path(__file__).parents[1] / "heads").glob("[a-z]*.py"))


def plugged_heads() -> dict[str, EntryPoint]:
    """Entry points of the heads of other packages, by name; none is imported.

    Of two with the same name the first is returned; `check_head` refuses them.
    """
    entries: dict[str, EntryPoint] = {}
    for entry in _plugins(_state_of_path()):
        entries.setdefault(entry.name, entry)
    return entries


def package_of(entry: EntryPoint) -> str:
    """Name, as pip knows it, of the package that a plugged-in head comes from."""
    return entry.dist.name if entry.dist else entry.value.partition(".")[0]


def head_names() -> list[str]:
    """Names of all heads, sorted; no head is imported, for that would import torch."""
    return sorted({*own_heads(), *plugged_heads()})


def _state_of_path() -> tuple[tuple[str, int], ...]:
    """Folders of Python's path, with the times of their changes, nanoseconds."""
    folders = [(entry, Path(entry or ".")) for entry in sys.path]
    return tuple(
        (entry, folder.stat().st_mtime_ns if folder.exists() else 0) for entry, folder in folders
    )


@cache
def _plugins(_: tuple[tuple[str, int], ...]) -> list[EntryPoint]:
    """Entry points of heads, of the packages on a path in this state.

    A study builds hundreds of heads, and a look at all packages takes longer than to
    build one.
    """
    return list(entry_points(group=PLUGIN_GROUP))


def check_head(name: str) -> EntryPoint | None:
    """Check that a name means exactly one head.

    Returns:
        Entry point of a plugged-in head; None for a head of mil.

    Raises:
        ConfigError: No head, or more than one, has that name.
    """
    entries = [entry for entry in _plugins(_state_of_path()) if entry.name == name]
    owners = ["mil"] * (name in own_heads()) + [package_of(entry) for entry in entries]
    if not owners:
        raise ConfigError(unknown_name("head", name, head_names()))
    # Refused, not resolved: the order of installed packages must not decide which head
    # is trained.
    if len(owners) > 1:
        raise ConfigError(
            f"head {name} is in {' and in '.join(owners)}; rename it in {owners[-1]} "
            f"(entry point of {PLUGIN_GROUP}), or uninstall that package"
        )
    return entries[0] if entries else None


def recipe_files() -> dict[str, Path]:
    """Files of all recipes, by name; ./configs/heads overrides those of mil."""
    folders = (SHIPPED / "configs/heads", config_path("heads"))
    # Of two files with one name, that of the later folder wins.
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """File of a recipe, given its name or its path."""
    return named_file("heads", name, "head recipe")


@contextmanager
def of_recipe(name: str) -> Iterator[None]:
    """Name a recipe's file in faults of the head's options, which come from the file.

    Args:
        name: name or path of the recipe.

    Raises:
        ConfigError: the fault, with the file.
    """
    try:
        yield
    except ConfigError as error:
        # Others name their own file.
        if not str(error).startswith("head "):
            raise
        raise ConfigError(f"{recipe_path(name)}: {error}") from None


def load_recipe(name: str) -> Recipe:
    """Read and check one recipe, given its name or its path.

    Raises:
        ConfigError: The file, its head or one of its loss terms is missing or wrong.
    """
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
