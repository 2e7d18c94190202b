"""The choice of tiles: either end of a map, a random sample, or all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mil.errors import DatasetError, FormatError, unknown_name
from mil.io.scores import MAP_KINDS, MapKind
from mil.tasks import Task
from mil.trained.scored_slide import ScoredSlide
from mil.trained.tile_maps import TileMap, tile_map
from mil.trained.top_tiles import extreme_tiles

# Tiles that are exported where nothing else is asked for.
USUAL = 50


@dataclass(frozen=True)
class Choice:
    """Tiles that are asked for.

    Attributes:
        top: Number of tiles with the largest values.
        bottom: Number of tiles with the smallest values.
        random: Number of tiles drawn at random.
        all: Whether all tiles are asked for.
        by: Kind of map that gives the values.
        column: Prediction that the map is about; empty: that of interest.
        seed: Seed of the random sample.
    """

    top: int = 0
    bottom: int = 0
    random: int = 0
    all: bool = False
    by: MapKind = "attention"
    column: str = ""
    seed: int = 1

    @property
    def needs_scores(self) -> bool:
        """Whether tiles are chosen by the values of a map."""
        return bool(self.top or self.bottom)

    @classmethod
    def checked(
        cls,
        *,
        top: int | None,
        bottom: int | None,
        random: int | None,
        all: bool,
        by: MapKind,
        column: str,
        seed: int,
    ) -> "Choice":
        """The choice that options state; without any, the usual number of top tiles.

        Raises:
            DatasetError: Two of the options exclude one another.
        """
        ways = [top is not None or bottom is not None, random is not None, all]
        if sum(ways) > 1:
            raise DatasetError(
                "tiles: --top and --bottom, --random and --all exclude one another; give one"
            )
        if not any(ways):
            top = USUAL
        return cls(top or 0, bottom or 0, random or 0, all, by, column, seed)


class ChosenTile(NamedTuple):
    """A tile to export: its number among the footprints, from 0, and why it was chosen."""

    number: int
    way: str
    # From 1 within its way.
    rank: int


def chosen_tiles(
    choice: Choice, num_tiles: int, values: Float[np.ndarray, " tiles"] | None
) -> list[ChosenTile]:
    """The tiles that are asked for, in their order.

    Args:
        choice: Tiles that are asked for.
        num_tiles: Number of tiles of the slide.
        values: Values of the map that ranks them; None where none is needed.
    """
    if values is not None and choice.needs_scores:
        top, bottom = extreme_tiles(values, choice.top, choice.bottom)
        return [*_ranked("top", top), *_ranked("bottom", bottom)]
    if choice.all:
        return list(_ranked("all", np.arange(num_tiles)))
    rng = np.random.default_rng(choice.seed)
    sample = rng.permutation(num_tiles)[: choice.random]
    return list(_ranked("random", np.sort(sample)))


def _ranked(way: str, numbers: Int[np.ndarray, " chosen"]) -> Iterator[ChosenTile]:
    return (ChosenTile(number, way, rank) for rank, number in enumerate(numbers.tolist(), 1))


def maps_of(scored: ScoredSlide, choice: Choice) -> dict[MapKind, TileMap]:
    """All maps of a slide's tiles, that which ranks them among them.

    Raises:
        FormatError: The scores have no map of that kind.
        DatasetError: The task has no such prediction.
    """
    column = _column(scored.records[0].task, choice.column)
    maps = {kind: tile_map(kind, scored.records, scored.scores, column) for kind in MAP_KINDS}
    known = {kind: one for kind, one in maps.items() if one is not None}
    if choice.needs_scores and choice.by == "rollout" and choice.by not in known:
        raise FormatError(
            f"{scored.bag.slide}: its score file holds no rollout, which only heads with mixing "
            "layers have; give --by attention"
        )
    if choice.needs_scores and choice.by not in known:
        raise FormatError(
            f"{scored.bag.slide}: its score file holds no evidence of tiles; run `mil score` "
            "again, or give --by attention"
        )
    return known


def _column(task: Task, column: str) -> str:
    """Column of the task's predictions, by its name or by that of its class."""
    if not column or column in task.columns:
        return column
    # A class is known to its user by its own name.
    if f"p_{column}" in task.columns:
        return f"p_{column}"
    raise DatasetError(f"--column: {unknown_name('prediction', column, task.columns)}")


def value_of(maps: Mapping[MapKind, TileMap], kind: MapKind, number: int) -> float | None:
    """Value of a tile on a map; None where there is no such map."""
    return float(maps[kind].values[number]) if kind in maps else None
