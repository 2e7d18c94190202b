"""Tiles that lie beside one another on the slide."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.graph.edges import SPATIAL, from_pairs

# Four of the eight directions, x and y in steps. The other four are the same edges, from
# the other tile.
FORWARD = (
    (1, 0),  # right
    (-1, 1),  # below left
    (0, 1),  # below
    (1, 1),  # below right
)
# The four cells, right and down, that a square of one cell's size can touch.
CORNERS = (
    (0, 0),
    (1, 0),
    (0, 1),
    (1, 1),
)
# A distance that is rarer than this share of the commonest one is a coincidence, such
# as that between the rows of two regions.
COMMON_SHARE = 0.1


def spatial_graph(coords: Int[Tensor, "tiles 2"], step: int | float | None = None) -> Graph:
    """Graph in which every tile attends to the up to eight tiles around it.

    A neighbour's corner lies one step away along one axis or both, within a quarter of
    a step. So rounding of corners to whole pixels does no harm, however far the grid
    reaches, and regions may have grids of their own. Of tiles at one position the first
    counts; the others attend to themselves alone.

    Args:
        coords: top left corners in level-0 pixels, x and y.
        step: distance between neighbours in level-0 pixels; None: the smallest distance
            in a row or column that is not rare.

    Raises:
        ValueError: the step is not positive.
    """
    step = grid_step(coords) if step is None else step
    if step <= 0:
        raise ValueError(f"the step between tiles must be positive, not {step}")
    scale = 2 / step
    from_corner = coords.double() - coords.amin(0)
    half_steps = from_corner * scale
    sources, targets = _neighbours(half_steps)
    both_sources = torch.cat([sources, targets])
    both_targets = torch.cat([targets, sources])
    return from_pairs(both_sources, both_targets, SPATIAL, len(coords))


def _neighbours(
    half_steps: Float[Tensor, "tiles 2"],
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Pairs of neighbours, each once.

    Args:
        half_steps: corners in half steps. A cell of half a step holds one tile of a
            grid.
            The square where a neighbour's corner may lie, a quarter of a step to either
            side, touches two cells on either axis.
    """
    # Cells have numbers row by row, with room for those beside the outermost tiles.
    rightmost = half_steps[:, 0].amax()
    across = int(rightmost) + 6
    cells = half_steps.floor().long()
    column = cells[:, 0]
    row = cells[:, 1]
    keys, tiles = first_in_cell(column + row * across)
    last = len(keys) - 1
    positions = half_steps[tiles]
    right, down = torch.tensor(CORNERS, device=keys.device).unbind(1)
    beside = right + down * across
    sources = []
    targets = []
    for direction in FORWARD:
        offset = 2 * half_steps.new_tensor(direction)
        expected = positions + offset
        cell = (expected - 0.5).floor().long()
        # [corners, tiles]: all corners at once, since of a small bag each step costs its call.
        key = cell[:, 0] + cell[:, 1] * across + beside[:, None]
        index = torch.searchsorted(keys, key).clamp(max=last)
        distance = (positions[index] - expected).abs()
        close = (distance <= 0.5).all(2)
        occupied = keys[index] == key
        corner, number = (occupied & close).nonzero(as_tuple=True)
        sources.append(tiles[number])
        targets.append(tiles[index[corner, number]])
    return torch.cat(sources), torch.cat(targets)


def first_in_cell(
    cells: Int[Tensor, " tiles"],
) -> tuple[Int[Tensor, " cells"], Int[Tensor, " cells"]]:
    """Cells in ascending order, and the first tile of each."""
    keys, tiles = cells.sort(stable=True)
    first = torch.ones_like(keys, dtype=torch.bool)
    before = keys[:-1]
    first[1:] = keys[1:] != before
    return keys[first], tiles[first]


def grid_step(coords: Int[Tensor, "tiles 2"]) -> float:
    """Smallest distance that is not rare between adjacent tiles of a row or column.

    Args:
        coords: top left corners in level-0 pixels, x and y; at least one.
    """
    (step,) = grid_steps(coords, torch.tensor([0, len(coords)], device=coords.device))
    return step


def grid_steps(coords: Int[Tensor, "tiles 2"], offsets: Int[Tensor, " bags_plus_1"]) -> list[float]:
    """`grid_step` of each bag.

    Args:
        coords: top left corners of the tiles of all bags, level-0 pixels.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``, at least one.
    """
    sizes = offsets.diff()
    bag_of = torch.arange(len(sizes), device=coords.device).repeat_interleave(sizes)
    from_corner = (coords - coords.amin(0)).long()
    in_rows, bags_of_rows = _gaps(from_corner, bag_of)
    in_columns, bags_of_columns = _gaps(from_corner.flip(1), bag_of)
    gaps = torch.cat([in_rows, in_columns])
    bag_of_gap = torch.cat([bags_of_rows, bags_of_columns])
    of_bags = enumerate(coords.split(sizes.tolist()))
    return [_smallest_common(gaps[bag_of_gap == bag], corners) for bag, corners in of_bags]


def _gaps(
    from_corner: Int[Tensor, "tiles 2"], bag_of: Int[Tensor, " tiles"]
) -> tuple[Int[Tensor, " gaps"], Int[Tensor, " gaps"]]:
    """Distances between adjacent tiles of the same row of a bag, and the bags.

    Args:
        from_corner: column and row of the tiles, 0 or more.
        bag_of: number of each tile's bag.
    """
    columns, rows = (from_corner.amax(0) + 1).unbind()
    column, row = from_corner.unbind(1)
    # In order of bag, row and column.
    ordered = ((bag_of * rows + row) * columns + column).sort().values
    gap = ordered.diff()
    row_of = ordered // columns
    is_gap = (row_of.diff() == 0) & (gap > 0)
    return gap[is_gap], row_of[1:][is_gap] // rows


def _smallest_common(gaps: Int[Tensor, " gaps"], coords: Int[Tensor, "tiles 2"]) -> float:
    """Smallest of the gaps of a bag that is not rare; without any, that of its coordinates."""
    if len(gaps) == 0:  # no two tiles in one row or column
        per_axis = [axis.unique().diff() for axis in coords.T]
        gaps = torch.cat(per_axis)
    if len(gaps) == 0:  # a single position
        return 1.0
    distances, counts = gaps.unique(return_counts=True)
    common = counts >= COMMON_SHARE * counts.amax()
    return float(distances[common][0])
