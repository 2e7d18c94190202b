"""Results file of `mil bench classical`, written after every head and resumed from."""

from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, JsonValue

from mil.bench.classical_fit import ClassicalProtocol
from mil.bench.results_file import ResultsContent, read_results
from mil.bench.results_table import machine
from mil.config import LossWeight, Recipe, Section
from mil.io.atomic import write_json

Share = Annotated[float, Field(ge=0, le=1)]


class AccuracySummary(NamedTuple):
    """Accuracy over repetitions and folds, 0 to 1."""

    mean: float
    deviation: float | None  # standard deviation over repetitions; None: one repetition
    standard_error: float  # over the folds of one repetition

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.3f}"
        return f"{self.mean:.3f}{spread} ({self.standard_error:.3f})"


class CountedRecipe(Section):
    """Parts of a recipe that count here; the training is the protocol's."""

    name: str
    options: dict[str, JsonValue]
    losses: dict[str, LossWeight]
    # The one training setting that the protocol takes from the recipe.
    clip_norm: float | None


class ClassicalResult(Section):
    """Result of one head on one data set."""

    dataset: str
    data: str = Field(description="Fingerprint of the data set's files.")
    recipe: str
    what: CountedRecipe = Field(
        description="Parts of the recipe that count, so that a changed one is measured again."
    )
    accuracy: list[list[Share]] = Field(
        description="Accuracy by repetition and fold.", min_length=1
    )
    seconds: float = Field(ge=0, description="Mean time of one fit and its test, seconds.")

    def summary(self) -> AccuracySummary:
        """Mean, standard deviation over repetitions, and standard error over folds."""
        table = np.array(self.accuracy)
        deviation = float(table.mean(1).std(ddof=1)) if len(table) > 1 else None
        standard_error = table.std(1, ddof=1).mean() / sqrt(table.shape[1])
        return AccuracySummary(float(table.mean()), deviation, float(standard_error))


class RunSettings(Section):
    """Settings that all results of a file share."""

    protocol: ClassicalProtocol
    repeats: int
    folds: int


class _ResultsContent(ResultsContent):
    """Content of a results file."""

    format: Literal["mil.bench.classical"] = "mil.bench.classical"
    version: Literal[1] = 1
    settings: RunSettings
    rows: list[ClassicalResult]


@dataclass
class ResultsFile:
    """Results of a run, on disk after each of them if there is a path."""

    settings: RunSettings
    path: Path | None
    rows: list[ClassicalResult]

    def find(
        self, dataset: str, data: str, recipe_name: str, recipe: Recipe
    ) -> ClassicalResult | None:
        """Result of this very recipe on these very files; None if there is none.

        Args:
            dataset: name of the data set.
            data: fingerprint of its files.
            recipe_name: name of the recipe.
            recipe: the recipe.
        """
        key = (dataset, data, recipe_name, counted_recipe(recipe))
        for row in self.rows:
            if (row.dataset, row.data, row.recipe, row.what) == key:
                return row
        return None

    def add(self, result: ClassicalResult) -> None:
        """Add a result, in the place of one with its names if there is one."""
        name = (result.dataset, result.recipe)
        others = [row for row in self.rows if (row.dataset, row.recipe) != name]
        self.rows = [*others, result]
        if self.path is not None:
            content = _ResultsContent(machine=machine(), settings=self.settings, rows=self.rows)
            write_json(self.path, content.model_dump(mode="json"))


def open_results(path: Path | None, settings: RunSettings) -> ResultsFile:
    """Open a results file, or begin one.

    Args:
        path: the file, which need not exist; None: results are not written.
        settings: settings of the run.

    Raises:
        FormatError: the file holds something else, or results of other settings.
    """
    content = read_results(path, _ResultsContent, settings)
    return ResultsFile(settings, path, [] if content is None else content.rows)


def counted_recipe(recipe: Recipe) -> CountedRecipe:
    """Parts of a recipe that count, as a results file holds them."""
    # Through JSON, as a file has it: a tuple and a list must compare as equal.
    content = recipe.model_dump(mode="json")
    return CountedRecipe(
        name=content["name"],
        options=content["options"],
        losses=content["losses"],
        clip_norm=recipe.train.clip_norm,
    )
