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
    """Smallest distance that is not rare between adjacent tiles of a row or column."""
    in_rows = _gaps(coords)
    in_columns = _gaps(coords.flip(1))
    gaps = torch.cat([in_rows, in_columns])
    if len(gaps) == 0:  # no two tiles in one row or column
        per_axis = [axis.unique().diff() for axis in coords.T]
        gaps = torch.cat(per_axis)
    if len(gaps) == 0:  # a single position
        return 1.0
    distances, counts = gaps.unique(return_counts=True)
    common = counts >= COMMON_SHARE * counts.amax()
    return float(distances[common][0])


def _gaps(coords: Int[Tensor, "tiles 2"]) -> Int[Tensor, " gaps"]:
    """Distances between adjacent tiles of the same row."""
    # Ordered by y, then by x: both sorts are stable.
    x_order = coords[:, 0].argsort(stable=True)
    by_x = coords[x_order].long()
    y_order = by_x[:, 1].argsort(stable=True)
    gap = by_x[y_order].diff(dim=0)
    across = gap[:, 0]
    same_row = gap[:, 1] == 0
    return across[same_row & (across > 0)]


def grid_steps(coords: Int[Tensor, "tiles 2"], offsets: Int[Tensor, " bags_plus_1"]) -> list[float]:
    """`grid_step` of each bag; of several bags at once, since of a small one each call costs.

    Args:
        coords: top left corners of the tiles of all bags.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
    """
    of_bags = coords.split(offsets.diff().tolist())
    if len(of_bags) == 1:
        return [grid_step(coords)]
    bags = torch.arange(len(of_bags), device=coords.device)
    bag_of = torch.repeat_interleave(bags, offsets.diff(), output_size=len(coords))
    from_corner = (coords - coords.amin(0)).long()
    gaps, gap_bags = _gaps_of_bags(from_corner, bag_of)
    if len(gaps) == 0:
        return [grid_step(corners) for corners in of_bags]
    size = gaps.amax() + 1
    distances, counts = (gap_bags * size + gaps).unique(return_counts=True)
    bag = distances // size
    most = counts.new_zeros(len(of_bags)).scatter_reduce(0, bag, counts, "amax")
    common = counts >= COMMON_SHARE * most[bag]
    common_bag = bag[common]
    smallest = torch.searchsorted(common_bag, bags).clamp(max=len(common_bag) - 1)
    has_gap = (most > 0).tolist()
    steps = (distances % size)[common][smallest].tolist()
    return [
        float(step) if known else grid_step(corners)
        for step, known, corners in zip(steps, has_gap, of_bags, strict=True)
    ]


def _gaps_of_bags(
    from_corner: Int[Tensor, "tiles 2"], bag_of: Int[Tensor, " tiles"]
) -> tuple[Int[Tensor, " gaps"], Int[Tensor, " gaps"]]:
    """Distances between adjacent tiles of the same row or column of a bag, and the bags."""
    across, down = (from_corner.amax(0) + 1).unbind()
    x, y = from_corner.unbind(1)
    gaps = []
    bags = []
    # Tiles in order of bag, line, and place in the line.
    for place, places, line, lines in ((x, across, y, down), (y, down, x, across)):
        in_order = ((bag_of * lines + line) * places + place).sort().values
        gap = in_order.diff()
        line_of = in_order // places
        within = (line_of.diff() == 0) & (gap > 0)
        gaps.append(gap[within])
        bags.append(line_of[1:][within] // lines)
    return torch.cat(gaps), torch.cat(bags)
