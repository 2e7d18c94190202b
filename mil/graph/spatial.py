"""Tiles that lie beside one another on the slide."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.graph.edges import SPATIAL, from_pairs

FORWARD = (
    (1, 0),
    (-1, 1),
    (0, 1),
    (1, 1),
)  # the other four of the eight are these, looked at from the other tile
COMMON = (
    0.1  # of the commonest distance: what is rarer is chance, as between the rows of two regions
)


def spatial_graph(coords: Int[Tensor, "tiles 2"], step: int | float | None = None) -> Graph:
    """Every tile looks at the up to eight tiles around it.

    A neighbour's corner lies a step away, give or take a quarter of a step, along one
    axis or both. So corners rounded to whole pixels do no harm however far they reach,
    and regions may have grids of their own. Of tiles in one place the first counts, the
    others look at themselves alone.

    Args:
        coords: level-0 pixels, top left, x and y.
        step: between neighbours, level-0 pixels; None: the smallest distance in a row
            or column that is not rare.

    Raises:
        ValueError: the step is not positive.
    """
    step = _step(coords) if step is None else step
    if step <= 0:
        raise ValueError(f"the step between tiles must be positive, not {step}")
    halves = (coords.double() - coords.amin(0)) * (2 / step)
    sources, targets = _neighbours(halves)
    return from_pairs(
        torch.cat([sources, targets]), torch.cat([targets, sources]), SPATIAL, len(coords)
    )


def _neighbours(
    halves: Float[Tensor, "tiles 2"],
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Pairs of neighbours, each once.

    Args:
        halves: corners in half steps. A cell of a half step holds one tile of a grid,
            and where a neighbour may be, a quarter of a step to either side, is within
            two cells on either axis.
    """
    across = int(halves[:, 0].amax()) + 6
    cells = halves.floor().long()
    keys, tiles = _first_in_cell(cells[:, 0] + cells[:, 1] * across)
    places = halves[tiles]
    found = []
    for direction in FORWARD:
        expected = places + 2 * halves.new_tensor(direction)
        corner = (expected - 0.5).floor().long()
        for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
            key = (corner[:, 0] + right) + (corner[:, 1] + down) * across
            at = torch.searchsorted(keys, key).clamp(max=len(keys) - 1)
            near = (keys[at] == key) & ((places[at] - expected).abs() <= 0.5).all(1)
            found.append((tiles[near], tiles[at[near]]))
    sources, targets = zip(*found, strict=True)
    return torch.cat(sources), torch.cat(targets)


def _first_in_cell(
    cells: Int[Tensor, " tiles"],
) -> tuple[Int[Tensor, " cells"], Int[Tensor, " cells"]]:
    """Cells in ascending order, and the first tile of each."""
    ordered = cells.sort(stable=True)
    first = torch.ones_like(ordered.values, dtype=torch.bool)
    first[1:] = ordered.values[1:] != ordered.values[:-1]
    return ordered.values[first], ordered.indices[first]


def _step(coords: Int[Tensor, "tiles 2"]) -> float:
    """The smallest distance between tiles next to one another in a row or column that is not rare."""
    gaps = torch.cat([_gaps(coords), _gaps(coords.flip(1))])
    if len(gaps) == 0:  # no two tiles in a row or a column
        gaps = torch.cat([axis.unique().diff() for axis in coords.T])
    if len(gaps) == 0:
        return 1.0
    found, counts = gaps.unique(return_counts=True)
    return float(found[counts >= COMMON * counts.amax()][0])


def _gaps(coords: Int[Tensor, "tiles 2"]) -> Int[Tensor, " gaps"]:
    """Distances between tiles next to one another in the same row."""
    by_x = coords[coords[:, 0].argsort(stable=True)].long()
    ordered = by_x[by_x[:, 1].argsort(stable=True)]
    gap = ordered.diff(dim=0)
    return gap[(gap[:, 1] == 0) & (gap[:, 0] > 0), 0]
