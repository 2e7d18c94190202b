"""The plan of composite slides: real tiles side by side, with a spot of tumour in half of them.

Slides of a plan are drawn from one random state, `numpy.random.default_rng(seed)`, in
this order, which must not change:

1. the tiles of `normal` are shuffled, then those of `tumour`;
2. slide by slide: columns and rows of its grid; of a tumour slide the centre of the
   spot; gain and bias of its stain; and place by place, row by row, the tile, its
   quarter turns and its flip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.demo.labelled_tiles import CLASS_NAMES
from mil.errors import DatasetError

# Side of a tile on a composite slide, pixels: what encoders take.
CELL_PX = 224
# Columns and rows of a slide's grid: from the first number to below the second.
GRID_SIDES = (9, 14)
# Squared radius, in half sides of the grid, up to which a place is tissue.
ELLIPSE = 1.05
# Spread of the stain from slide to slide, in units of optical density.
GAIN_DEVIATION = 0.08
BIAS_DEVIATION = 0.02
# Shares of the tiles of each class up to which they are for training, and then for
# validation; the others are for testing.
TRAIN_SHARE = 0.5
VALIDATION_SHARE = 0.65

Rng = np.random.Generator
Split = Literal["train", "val", "test", "second"]
# Numbers of the tiles that slides are drawn from: of normal tiles, of tumour tiles.
Pool = tuple[Int[np.ndarray, " normal"], Int[np.ndarray, " tumour"]]


class Stain(NamedTuple):
    """Shift of optical density, by channel: ``density * gain + bias``."""

    gain: Float[np.ndarray, " 3"]
    bias: Float[np.ndarray, " 3"]


class Layout(NamedTuple):
    """Tissue of a slide on a grid: an ellipse of places, some of them tumour."""

    columns: int
    rows: int
    places: Int[np.ndarray, "places 2"]  # row and column
    labels: Int[np.ndarray, " places"]  # 1 for tumour


@dataclass(frozen=True, eq=False)
class CompositeSlide:
    """One composite slide before its pixels.

    Attributes:
        split: set that the slide belongs to; `second` is the second test set.
        layout: places of its tiles.
        stain: its stain.
        tiles: number of the tile at each place.
        turns: quarter turns of the tile at each place.
        flips: whether the tile at each place is mirrored, after its turns.
    """

    split: Split
    layout: Layout
    stain: Stain
    tiles: Int[np.ndarray, " places"]
    turns: Int[np.ndarray, " places"]
    flips: Bool[np.ndarray, " places"]

    @property
    def positive(self) -> bool:
        """Whether the slide holds tumour."""
        return bool(self.layout.labels.any())


def draw_stain(rng: Rng) -> Stain:
    """Draw a stain: gain N(1, 0.08) and bias N(0, 0.02) of each channel."""
    gain = rng.normal(1, GAIN_DEVIATION, 3)
    bias = rng.normal(0, BIAS_DEVIATION, 3)
    return Stain(gain, bias)


def draw_layout(
    rng: Rng,
    *,
    positive: bool,
    witness: float,
    sort: Literal["quicksort", "stable"] = "stable",
) -> Layout:
    """Draw an ellipse of about a hundred places, with a spot of tumour if it is positive.

    Args:
        rng: random state.
        positive: whether there is tumour; it has at least one place.
        witness: share of the places that are tumour, 0 to 1.
        sort: numpy's sort of the places by their distance from the centre of the spot.
            Quicksort orders equal distances in a way that may differ from one kind of
            processor to another.
    """
    columns, rows = (int(side) for side in rng.integers(*GRID_SIDES, 2))
    y, x = np.mgrid[0:rows, 0:columns]
    from_middle_x = (x - columns / 2 + 0.5) / (columns / 2)
    from_middle_y = (y - rows / 2 + 0.5) / (rows / 2)
    places = np.argwhere(from_middle_x**2 + from_middle_y**2 <= ELLIPSE)
    labels = np.zeros(len(places), np.int64)
    if positive:
        centre = places[rng.integers(len(places))]
        squared_distance = ((places - centre) ** 2).sum(1)
        size = max(1, round(witness * len(places)))
        labels[np.argsort(squared_distance, kind=sort)[:size]] = 1
    return Layout(columns, rows, places, labels)


def draw_pools(
    rng: Rng,
    labels: Int[np.ndarray, " tiles"],
    usable: Bool[np.ndarray, " tiles"],
    *,
    second: bool,
) -> dict[Split, Pool]:
    """Divide the tiles at random into pools that share none.

    Half of each class is for training, 15 % for validation, the rest for testing. With
    a second test set, the rest is halved; pools of training and validation do not
    depend on it.

    Args:
        rng: random state.
        labels: label of each tile.
        usable: tiles that may be drawn.
        second: whether there is a second test set.

    Raises:
        DatasetError: a pool has no tile of a class.
    """
    by_class: list[dict[Split, Int[np.ndarray, " tiles"]]] = []
    for label, name in enumerate(CLASS_NAMES):
        # As a list: numpy draws the same order for it as for any list of this length.
        shuffled = np.flatnonzero((labels == label) & usable).tolist()
        rng.shuffle(shuffled)
        order = np.array(shuffled, dtype=np.int64)
        ends = [int(len(order) * TRAIN_SHARE), int(len(order) * VALIDATION_SHARE)]
        names: list[Split] = ["train", "val", "test"]
        if second:
            ends.append(ends[-1] + (len(order) - ends[-1]) // 2)
            names.append("second")
        parts = np.split(order, ends)
        if not all(map(len, parts)):
            raise DatasetError(
                f"{len(order)} tiles of the class {name!r} that are not blank are too few for "
                f"{len(parts)} disjoint sets; give more tiles"
            )
        by_class.append(dict(zip(names, parts, strict=True)))
    normal, tumour = by_class
    return {split: (normal[split], tumour[split]) for split in normal}


def split_sizes(slides: int, second: int) -> dict[Split, int]:
    """Number of slides of each set: half to train, a sixth to validate, the rest to test."""
    train = slides // 2
    validation = slides // 6
    test = slides - train - validation
    return {"train": train, "val": validation, "test": test, "second": second}


def plan_composites(
    labels: Int[np.ndarray, " tiles"],
    usable: Bool[np.ndarray, " tiles"],
    *,
    slides: int,
    witness: float,
    seed: int,
    second: int = 0,
) -> list[CompositeSlide]:
    """Plan composite slides; every other one holds tumour.

    Args:
        labels: label of each tile.
        usable: tiles that may be drawn.
        slides: number of slides without the second test set.
        witness: share of tumour tiles in a positive slide, 0 to 1.
        seed: random seed.
        second: number of slides of the second test set, from tiles that no other slide
            is drawn from.

    Raises:
        DatasetError: there are too few tiles of a class.
    """
    rng = np.random.default_rng(seed)
    pools = draw_pools(rng, labels, usable, second=second > 0)
    return _draw_slides(rng, pools, split_sizes(slides, second), witness)


def _draw_slides(
    rng: Rng, pools: Mapping[Split, Pool], sizes: Mapping[Split, int], witness: float
) -> list[CompositeSlide]:
    plan: list[CompositeSlide] = []
    for split, size in sizes.items():
        for _ in range(size):
            positive = len(plan) % 2 == 1
            layout = draw_layout(rng, positive=positive, witness=witness, sort="quicksort")
            plan.append(_draw_tiles(rng, split, layout, pools[split]))
    return plan


def _draw_tiles(rng: Rng, split: Split, layout: Layout, pool: Pool) -> CompositeSlide:
    stain = draw_stain(rng)
    tiles = np.zeros(len(layout.labels), np.int64)
    turns = np.zeros(len(layout.labels), np.int64)
    flips = np.zeros(len(layout.labels), bool)
    # One by one: the draws of a place come together.
    for place, label in enumerate(layout.labels):
        candidates = pool[label]
        tiles[place] = candidates[rng.integers(len(candidates))]
        turns[place] = rng.integers(4)
        flips[place] = rng.random() < 0.5
    return CompositeSlide(split, layout, stain, tiles, turns, flips)
