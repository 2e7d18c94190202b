"""Cohorts of composite slides in feature space, drawn from a bank of encoded tiles.

Tiles lie in four pools, for training, validation and two test sets, which share none.
Stains are apart too: those of training and validation, of the test set, and of the
second test set. With a shift of the stain the second test set has all tiles of another
centre's stain, and no other set has any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, Int
from pydantic import Field

from mil.bench.learn_bank import FeatureBank, ToolCohort
from mil.bench.learn_pools import Rng, disjoint_pools, draw_stains, shifted_pools
from mil.config import Section
from mil.demo.composite import cell_corners
from mil.demo.composite_plan import Layout, Pool, draw_layout, draw_pools
from mil.errors import ConfigError
from mil.train.data import LabelledBag

# Training slides of `mil demo composites` that go with two validation slides.
FEWEST_OF_TOOL = 6


class CohortSettings(Section):
    """Sizes of a cohort, and the share of tumour in its positive slides."""

    train_slides: int = Field(30, ge=2, description="Number of training slides.")
    val_slides: int = Field(10, ge=2, description="Number of validation slides.")
    test_slides: int = Field(40, ge=2, description="Number of slides of the test set.")
    second_test_slides: int = Field(60, ge=2, description="Number of slides of the second one.")
    witness: float = Field(
        0.08, ge=0, le=1, description="Share of tumour tiles in a positive slide."
    )

    stain_shift: bool = Field(
        False,
        description="Whether the second test set is of tiles of another stain than all others.",
    )

    def tool_cohort(self, seed: int) -> ToolCohort:
        """Slides of `mil demo composites` with as many training slides.

        Raises:
            ConfigError: they leave no validation slide of each class, or stains are to shift.
        """
        if self.stain_shift:
            raise ConfigError(
                "--tool-seed: has slides of all stains, --stain-shift divides them; leave one out"
            )
        if self.train_slides < FEWEST_OF_TOOL:
            raise ConfigError(
                f"--tool-seed: has a third as many validation slides as training slides; set "
                f"--train-slides to {FEWEST_OF_TOOL} or more, not {self.train_slides}"
            )
        return ToolCohort(seed, 2 * self.train_slides, self.witness)


class CohortName(NamedTuple):
    """Kind and seed of a cohort: drawn here, or with slides of `mil demo composites`."""

    kind: Literal["drawn", "tool"]
    seed: int

    def __str__(self) -> str:
        return f"tool {self.seed}" if self.kind == "tool" else str(self.seed)

    def rng(self, stream: int) -> Rng:
        """Random state of one purpose, so that sizes of one set do not change another."""
        return np.random.default_rng([int(self.kind == "tool"), self.seed, stream])


@dataclass(frozen=True, eq=False)
class FeatureSlide:
    """A composite slide as a bag of features, with all that is known of its tiles.

    Attributes:
        bag: features, coordinates and label (1 for tumour).
        tile_labels: 1 for tumour tiles.
        tiles: number of each tile in the bank.
        stain: number of the slide's stain in the bank; None: a stain of its own.
    """

    bag: LabelledBag
    tile_labels: Int[np.ndarray, " tiles"]
    tiles: Int[np.ndarray, " tiles"]
    stain: int | None


class Cohort(NamedTuple):
    """Slides to train and validate with, and two sets to test on."""

    train: list[FeatureSlide]
    valid: list[FeatureSlide]
    tests: tuple[list[FeatureSlide], list[FeatureSlide]]


class _Source(NamedTuple):
    """What the slides of one set are drawn from."""

    features: Float16[np.ndarray, "stains tiles dim"]
    pool: Pool
    stains: Int[np.ndarray, " stains"]
    witness: float


# Streams of random numbers of a cohort.
POOLS, TRAIN, VALID, TEST, SECOND = range(5)


def build_cohort(bank: FeatureBank, name: CohortName, settings: CohortSettings) -> Cohort:
    """Draw a cohort; the same name gives the same slides.

    Args:
        bank: bank of encoded tiles.
        name: kind and seed. A `tool` cohort has the training and validation slides of
            `mil demo composites`, in stains of their own, and test slides of its test
            pool, halved.
        settings: sizes and share of tumour.

    Raises:
        DatasetError: there are too few tiles of a class, or too few stains.
    """
    rng = name.rng(POOLS)
    pools = _pools(rng, bank, name, settings)
    stains = draw_stains(rng, bank.stains)
    features = bank.features()

    def draw(stream: int, pool: Pool, group: int, size: int) -> list[FeatureSlide]:
        source = _Source(features, pool, stains[group], settings.witness)
        return _draw_slides(name.rng(stream), source, size, f"{name} set {stream}")

    tests = (
        draw(TEST, pools[2], 1, settings.test_slides),
        draw(SECOND, pools[3], 2, settings.second_test_slides),
    )
    if name.kind == "tool":
        train, valid = _tool_sets(bank, settings.tool_cohort(name.seed))
        return Cohort(train, valid, tests)
    train = draw(TRAIN, pools[0], 0, settings.train_slides)
    valid = draw(VALID, pools[1], 0, settings.val_slides)
    return Cohort(train, valid, tests)


def _pools(rng: Rng, bank: FeatureBank, name: CohortName, settings: CohortSettings) -> list[Pool]:
    """Pools of training, validation, test and second test."""
    if name.kind == "tool":
        # The tool's own draws, to know which tiles are left for testing.
        tool_rng = np.random.default_rng(name.seed)
        by_split = draw_pools(tool_rng, bank.labels, bank.usable, second=True)
        return [by_split["train"], by_split["val"], by_split["test"], by_split["second"]]
    if settings.stain_shift:
        # The larger group is that of training in every other cohort.
        return shifted_pools(rng, bank, trained=name.seed % 2)
    return disjoint_pools(rng, bank.labels, bank.usable)


def _draw_slides(rng: Rng, source: _Source, size: int, name: str) -> list[FeatureSlide]:
    slides = []
    for number in range(size):
        positive = number % 2 == 1
        layout = draw_layout(rng, positive=positive, witness=source.witness)
        stain = int(rng.choice(source.stains))
        normal, tumour = source.pool
        # Drawn for every place, and used where the place is of that class.
        normal_tiles = rng.choice(normal, len(layout.labels))
        tumour_tiles = rng.choice(tumour, len(layout.labels))
        tiles = np.where(layout.labels == 1, tumour_tiles, normal_tiles)
        features = source.features[stain, tiles]
        slides.append(_feature_slide(f"{name} {number}", layout, features, tiles, stain))
    return slides


def _tool_sets(
    bank: FeatureBank, cohort: ToolCohort
) -> tuple[list[FeatureSlide], list[FeatureSlide]]:
    """Training and validation slides of `mil demo composites`."""
    plan = bank.tool_slides(cohort)
    ends = np.cumsum([len(slide.tiles) for slide in plan])
    features_by_slide = np.split(bank.tool_features(cohort), ends[:-1])
    slides: dict[str, list[FeatureSlide]] = {"train": [], "val": []}
    for slide, features in zip(plan, features_by_slide, strict=True):
        of_split = slides[slide.split]
        name = f"tool {cohort.seed} {slide.split} {len(of_split)}"
        of_split.append(_feature_slide(name, slide.layout, features, slide.tiles, None))
    return slides["train"], slides["val"]


def _feature_slide(
    name: str,
    layout: Layout,
    features: Float16[np.ndarray, "tiles dim"],
    tiles: Int[np.ndarray, " tiles"],
    stain: int | None,
) -> FeatureSlide:
    label = torch.tensor(int(layout.labels.any()))
    coords = torch.tensor(cell_corners(layout))
    bag = LabelledBag(name, torch.from_numpy(features), coords, label)
    return FeatureSlide(bag, layout.labels, tiles, stain)


def bags_of(slides: Sequence[FeatureSlide]) -> list[LabelledBag]:
    """Bags of slides."""
    return [slide.bag for slide in slides]
