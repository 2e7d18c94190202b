"""Rows of the table of `mil bench learn`: recipes, the published loop, and references."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.bench.learn_cohorts import CohortName
from mil.bench.learn_table import CEILING
from mil.config import Recipe, load_recipe
from mil.errors import ConfigError, unknown_name

HEADS = (
    "mean",
    "max",
    "abmil",
    "aem",
    "acmil",
    "clam_sb",
    "clam_mb",
    "dsmil",
    "dtfd",
    "graph_select",
    "transmil",
)
# Training of the published codes of CLAM, ACMIL and AEM, for any head; the epoch is
# that of the least validation loss.
PUBLISHED_LOOP = {
    "epochs": 50,
    "batch_bags": 1,
    "accumulate": 1,
    "lr": 1e-4,
    "min_lr": 0.0,
    "warmup_epochs": 0.0,
    "weight_decay": 1e-5,
    "select": "loss",
    "patience": None,
    "auto": False,
    "whiten": None,
    "zscore": False,
    "restarts": 1,
    "keep_within": 0.0,
    "inner_folds": 0,
}
PUBLISHED = "published"
OWN = "own"


class LearnRun(NamedTuple):
    """Choices of a run.

    Attributes:
        heads: recipes, by name or by file.
        loops: `own`, the recipe's training, and `published`.
        cohorts: number of cohorts that are drawn.
        tool_seeds: seeds of cohorts with slides of `mil demo composites`.
        seeds: number of trainings of a recipe on a cohort.
        against: reference of the differences: a row, or a loop for the same recipe's
            row with it; empty: none.
    """

    heads: Sequence[str]
    loops: Sequence[str]
    cohorts: int
    tool_seeds: Sequence[int]
    seeds: int
    against: str = ""

    @property
    def cohort_names(self) -> list[CohortName]:
        """Names of all cohorts, drawn ones first.

        Raises:
            ConfigError: there is none.
        """
        names = [CohortName("drawn", seed) for seed in range(1, self.cohorts + 1)]
        names += [CohortName("tool", seed) for seed in self.tool_seeds]
        if not names:
            raise ConfigError(
                "no cohort to train on; set --cohorts to 1 or more, or give --tool-seed"
            )
        return names


def rows_of(choices: LearnRun) -> dict[str, Recipe | None]:
    """Rows of the table: the ceiling, and each recipe with each loop.

    Raises:
        ConfigError: a recipe cannot be read, a loop is unknown, or two files have one
            name.
    """
    rows: dict[str, Recipe | None] = {CEILING: None}
    for head in choices.heads:
        recipe = load_recipe(head)
        for loop in choices.loops:
            if loop not in (OWN, PUBLISHED):
                raise ConfigError(f"--loop: {unknown_name('loop', loop, (OWN, PUBLISHED))}")
            name = row_name(Path(head).stem, loop)
            if name in rows:
                raise ConfigError(f"--head {head}: there are two rows {name}; rename a file")
            rows[name] = with_published_loop(recipe) if loop == PUBLISHED else recipe
    return rows


def row_name(recipe: str, loop: str) -> str:
    """Name of a row: that of its recipe, with the loop if it is not the recipe's own."""
    return recipe if loop == OWN else f"{recipe}@{loop}"


def with_published_loop(recipe: Recipe) -> Recipe:
    """A recipe with the training of the published codes; head and losses are its own."""
    train = recipe.train.model_copy(update=PUBLISHED_LOOP)
    return recipe.model_copy(update={"train": train})


def references_of(choices: LearnRun, rows: Sequence[str]) -> dict[str, str]:
    """Reference of each row that has one; no row is its own.

    Raises:
        ConfigError: the reference is no row.
    """
    against = choices.against
    if not against:
        return {}
    if against not in (OWN, PUBLISHED):
        if against not in rows:
            raise ConfigError(f"--against: {unknown_name('row', against, rows)}")
        return {name: against for name in rows if name not in (CEILING, against)}
    if against not in choices.loops or len(choices.loops) < 2:
        raise ConfigError(f"--against {against}: needs --loop {OWN} and --loop {PUBLISHED}")
    compared = OWN if against == PUBLISHED else PUBLISHED
    stems = [Path(head).stem for head in choices.heads]
    return {row_name(stem, compared): row_name(stem, against) for stem in stems}
