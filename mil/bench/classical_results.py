"""The results of `mil bench classical`: a file that grows with every head and is taken up again where it was left."""

import json
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mil.bench.classical_fit import Protocol
from mil.bench.results_table import machine
from mil.config import Recipe, Section, checked
from mil.errors import FormatError
from mil.io.atomic import write_json
from mil.versions import TOOL_VERSION

Share = Annotated[float, Field(ge=0, le=1)]


class Measured(Section):
    """What one head did on one data set."""

    dataset: str
    data: str = Field(description="fingerprint of its files")
    recipe: str
    what: dict[str, Any] = Field(
        description="of the recipe what counts here, so that a changed one is measured anew"
    )
    accuracy: list[list[Share]] = Field(description="by repetition and fold", min_length=1)
    seconds: float = Field(ge=0, description="of one fit and its test, mean")

    def summary(self) -> tuple[float, float, float]:
        """Mean, standard deviation over the repetitions, and standard error over the folds of one of them."""
        table = np.array(self.accuracy)
        deviation = table.mean(1).std(ddof=1) if len(table) > 1 else 0.0
        return (
            float(table.mean()),
            float(deviation),
            float(table.std(1, ddof=1).mean() / sqrt(table.shape[1])),
        )


class Settings(Section):
    """What all results of a file were made with."""

    protocol: Protocol
    repeats: int
    folds: int


class _Page(Section):
    format: Literal["mil.bench.classical"] = "mil.bench.classical"
    version: Literal[1] = 1
    tool_version: str = TOOL_VERSION
    machine: dict[str, str | int]
    settings: Settings
    rows: list[Measured]


@dataclass
class Book:
    """Results, on the disk after each of them if there is a path."""

    settings: Settings
    path: Path | None
    rows: list[Measured]

    def find(self, dataset: str, data: str, recipe: str, what: Recipe) -> Measured | None:
        """The result of this very recipe on these very files, if there is one."""
        wanted = (dataset, data, recipe, counts(what))
        return next(
            (row for row in self.rows if (row.dataset, row.data, row.recipe, row.what) == wanted),
            None,
        )

    def add(self, row: Measured) -> None:
        """Put a result in the place of the one that had its name."""
        self.rows = [
            old for old in self.rows if (old.dataset, old.recipe) != (row.dataset, row.recipe)
        ] + [row]
        if self.path is not None:
            page = _Page(machine=machine(), settings=self.settings, rows=self.rows)
            write_json(self.path, page.model_dump(mode="json"))


def opened(path: Path | None, settings: Settings) -> Book:
    """The results that a file has already, if it is there.

    Raises:
        FormatError: it holds something else, or was made with other settings.
    """
    if path is None or not path.exists():
        return Book(settings, path, [])
    try:
        page = checked(_Page, json.loads(path.read_text(encoding="utf-8")), str(path))
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            f"{path}: not the results of this benchmark ({reason}); give another --json"
        ) from None
    if (page.settings, page.tool_version) != (settings, TOOL_VERSION):
        raise FormatError(
            f"{path}: made with other settings or another version; give another --json, or "
            "delete it"
        )
    return Book(settings, path, page.rows)


def counts(recipe: Recipe) -> dict[str, Any]:
    """What counts of a recipe: how it is trained is the protocol's, but for the longest gradient."""
    whole = recipe.model_dump(mode="json")
    return {key: whole[key] for key in ("name", "options", "losses")} | {
        "clip_norm": recipe.train.clip_norm
    }
