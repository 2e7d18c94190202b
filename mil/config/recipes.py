"""Recipes: a head, its options, losses and training; one file each in configs/heads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from mil.config.base import SHIPPED, Name, Section, checked, config_path, named_file
from mil.config.heads import check_head
from mil.config.losses import LOSS_TERMS, WrittenWeight
from mil.config.training import TrainConfig, WrittenTraining
from mil.config.yaml_file import read_yaml
from mil.errors import ConfigError, unknown_name


class Recipe(Section):
    """One file of configs/heads.

    A head, its options, the weights of its losses, and how it is trained.
    """

    name: Name = Field(
        description="Name of a head: a file of mil/heads, or a plug-in of another package."
    )
    options: dict[str, Any] = Field({}, description="Options of the head, as its `Config` defines.")
    losses: dict[str, WrittenWeight] = Field(
        min_length=1, description="Weight of each loss term, by its name in mil/losses/terms.py."
    )
    train: WrittenTraining = Field(
        TrainConfig(), description="Settings of the training; auto: planned from the cohort."
    )
    source: str = Field("", description="Publication or code that the settings were taken from.")


def recipe_files() -> dict[str, Path]:
    """Files of all recipes, by name; ./configs/heads overrides those of mil."""
    folders = (SHIPPED / "configs/heads", config_path("heads"))
    # Of two files with one name, that of the later folder wins.
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """File of a recipe, given its name or its path."""
    return named_file("heads", name, "head recipe")


@contextmanager
def recipe_errors(name: str) -> Iterator[None]:
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
