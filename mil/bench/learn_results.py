"""Results file of `mil bench learn`, written after every training and resumed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, JsonValue

from mil.bench.learn_cohorts import CohortSettings, FeatureSlide
from mil.bench.learn_fit import SlidePrediction
from mil.bench.results_file import ResultsContent, read_results
from mil.bench.results_table import machine
from mil.config import Recipe, Section
from mil.io.atomic import write_json
from mil.statistics.discrimination import auroc
from mil.versions import STAGE_VERSION

Share = Annotated[float, Field(ge=0, le=1)]
# Probabilities are cut off so far from 0 and 1, so that one slide's loss stays finite.
MARGIN = 1e-6


class TestMetrics(Section):
    """Metrics of one head on one test set."""

    # For pytest, which would take the class for a test.
    __test__ = False

    slide_auroc: Share = Field(description="AUROC of the slides' probabilities.")
    tile_auroc: Share = Field(
        description="AUROC of attention within a positive slide, mean over those slides."
    )
    log_loss: float = Field(ge=0, description="Mean cross-entropy of the slides, nats.")
    calibrated_log_loss: float = Field(
        ge=0, description="The same after the temperature fitted on validation slides."
    )


class LearnResult(Section):
    """Result of one training."""

    cohort: str = Field(description="Name of the cohort: its seed, or `tool` and its seed.")
    row: str = Field(description="Row of the table: a recipe and its loop, or the ceiling.")
    recipe: JsonValue = Field(description="The recipe as it was trained; null for the ceiling.")
    seed: int
    tests: list[TestMetrics] = Field(description="Metrics of each test set.", min_length=1)
    seconds: float = Field(ge=0, description="Time of the training and its tests.")


class RunSettings(Section):
    """Settings that all results of a file share."""

    bank: str = Field(description="Digest of tiles, encoder and settings of the bank.")
    stains: int
    cohorts: CohortSettings
    train_version: int = STAGE_VERSION["train"]


class _ResultsContent(ResultsContent):
    """Content of a results file."""

    format: Literal["mil.bench.learn"] = "mil.bench.learn"
    version: Literal[1] = 1
    settings: RunSettings
    rows: list[LearnResult]


@dataclass
class ResultsFile:
    """Results of a run, on disk after each of them if there is a path."""

    settings: RunSettings
    path: Path | None
    rows: list[LearnResult]

    def find(self, cohort: str, row: str, recipe: JsonValue, seed: int) -> LearnResult | None:
        """Result of this very training; None if there is none.

        Args:
            cohort: name of the cohort.
            row: row of the table.
            recipe: the recipe; see `recipe_content`.
            seed: random seed.
        """
        key = (cohort, row, recipe, seed)
        for result in self.rows:
            if (result.cohort, result.row, result.recipe, result.seed) == key:
                return result
        return None

    def add(self, result: LearnResult) -> None:
        """Add a result, in the place of one with its names if there is one."""
        name = (result.cohort, result.row, result.seed)
        self.rows = [row for row in self.rows if (row.cohort, row.row, row.seed) != name]
        self.rows.append(result)
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


def recipe_content(recipe: Recipe | None) -> JsonValue:
    """A recipe as a results file holds it; None for the ceiling, which has no recipe."""
    # Through JSON, as a file has it: a tuple and a list must compare as equal.
    return None if recipe is None else recipe.model_dump(mode="json")


def measure(predictions: Sequence[SlidePrediction], slides: Sequence[FeatureSlide]) -> TestMetrics:
    """Metrics of a test set that has slides of both classes.

    Args:
        predictions: prediction of each slide.
        slides: the slides.
    """
    labels = np.array([int(slide.bag.label) for slide in slides])
    probability = np.array([prediction.probability for prediction in predictions])
    calibrated = np.array([prediction.calibrated for prediction in predictions])
    tile_areas = []
    for prediction, slide in zip(predictions, slides, strict=True):
        area = auroc(slide.tile_labels, prediction.attention)
        # None in a slide without tumour.
        if area is not None:
            tile_areas.append(area)
    slide_area = auroc(labels, probability)
    # Every other slide is positive.
    assert slide_area is not None
    return TestMetrics(
        slide_auroc=slide_area,
        tile_auroc=float(np.mean(tile_areas)),
        log_loss=_log_loss(labels, probability),
        calibrated_log_loss=_log_loss(labels, calibrated),
    )


def _log_loss(labels: np.ndarray, probability: np.ndarray) -> float:
    of_label = np.where(labels == 1, probability, 1 - probability)
    return float(-np.log(of_label.clip(MARGIN, 1)).mean())
