"""Smooth random fields, cubic B-spline sampling and evenly spread points."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

Field = NDArray[np.float32]
Points = NDArray[np.float64]
Indices = NDArray[np.intp]
Rng = np.random.Generator

# Standard deviation that cubic B-spline interpolation leaves of unit white noise in two
# dimensions.
_LATTICE_STD = 0.48
# Side of the repeating pattern of even points, in least distances, and its seed.
_PATTERN_SIDE = 48.0
_PATTERN_SEED = 5
# Darts thrown for each unit of area.
_DARTS = 6


def _support(position: NDArray[np.floating], num_nodes: int) -> tuple[NDArray[np.intp], Field]:
    """The four nodes around each position, and their cubic B-spline weights, [n, 4]."""
    base = np.floor(position).astype(int)
    # Beyond the ends the last node repeats.
    nodes = base[:, None] + np.arange(-1, 3)
    nodes = np.clip(nodes, 0, num_nodes - 1)
    weights = _cubic(position - base)
    return nodes, weights.astype(np.float32)


def spline_weights(position: NDArray[np.floating], num_nodes: int) -> Field:
    """Cubic B-spline weights of every node at every position.

    Args:
        position: positions to sample at, in nodes, [n].
        num_nodes: number of nodes of the field; beyond its ends the last node repeats.

    Returns:
        Weights [n, num_nodes] whose rows sum to 1.
    """
    columns, values = _support(position, num_nodes)
    weights = np.zeros((len(position), num_nodes), np.float32)
    rows = np.arange(len(position))[:, None]
    # `add.at`, since a repeated last node has several weights.
    np.add.at(weights, (rows, columns), values)
    return weights


class Sampler:
    """Samples node fields at the pixels of an image, one block at a time.

    Args:
        num_nodes: rows and columns of the fields.
        size: rows and columns of the image.
        scale: nodes per pixel; node 0 lies on the centre of pixel 0.
        block: side of a block in pixels.
    """

    def __init__(
        self, num_nodes: tuple[int, int], size: tuple[int, int], *, scale: float, block: int
    ) -> None:
        self._axes = [
            self._blocks(nodes, pixels, scale, block)
            for nodes, pixels in zip(num_nodes, size, strict=True)
        ]

    @staticmethod
    def _blocks(nodes: int, pixels: int, scale: float, block: int) -> list[tuple[slice, Field]]:
        """The nodes that each block reads along one axis, and their weights."""
        blocks = []
        for start in range(0, pixels, block):
            position = np.arange(start, min(start + block, pixels)) * scale
            low = max(int(position[0]) - 1, 0)
            high = min(int(position[-1]) + 3, nodes)
            weights = spline_weights(position - low, high - low)
            blocks.append((slice(low, high), weights))
        return blocks

    def window(self, row: int, column: int) -> tuple[slice, slice]:
        """The nodes that a block reads."""
        rows, _ = self._axes[0][row]
        columns, _ = self._axes[1][column]
        return rows, columns

    def __call__(self, field: Field, row: int, column: int) -> Field:
        """The field at the pixels of block (row, column)."""
        rows, down = self._axes[0][row]
        columns, across = self._axes[1][column]
        sampled: Field = (down @ field[rows, columns] @ across.T).astype(np.float32, copy=False)
        return sampled


def resample(field: Field, size: tuple[int, int], scale: float) -> Field:
    """The whole field at `scale` nodes per output cell."""
    down = _sparse_weights(size[0], field.shape[0], scale)
    across = _sparse_weights(size[1], field.shape[1], scale)
    # Fewer columns first: the second product then touches the large array once.
    resampled: Field = np.ascontiguousarray((across @ (down @ field).T).T)
    return resampled


def _sparse_weights(num_cells: int, num_nodes: int, scale: float) -> sparse.csr_matrix:
    columns, values = _support(np.arange(num_cells) * scale, num_nodes)
    rows = np.repeat(np.arange(num_cells), 4)
    entries = values.ravel(), (rows, columns.ravel())
    return sparse.csr_matrix(entries, shape=(num_cells, num_nodes))


def _cubic(t: NDArray[np.floating]) -> NDArray[np.floating]:
    """Weights [n, 4] of the nodes at -1, 0, 1 and 2 for a position `t` between 0 and 1."""
    weights = [
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    ]
    return np.stack(weights, axis=1)


def smooth_noise(rng: Rng, size: tuple[int, int], period: float) -> Field:
    """Smooth noise of mean 0 and standard deviation 1.

    Args:
        rng: random state.
        size: rows and columns.
        period: distance of independent values, in cells.
    """
    # Four more: the spline reads beyond the last node.
    rows, columns = (int(side / period) + 4 for side in size)
    lattice_size = rows, columns
    lattice = rng.standard_normal(lattice_size, dtype=np.float32)
    return resample(lattice, size, 1 / period) / np.float32(_LATTICE_STD)


def noise_on(rng: Rng, size: tuple[int, int], step_um: float) -> Callable[[float], Field]:
    """Source of `smooth_noise` on one grid, by the period in um.

    Args:
        rng: random state; each call draws from it.
        size: rows and columns of the grid.
        step_um: distance of its nodes, um.
    """

    def noise(period_um: float) -> Field:
        return smooth_noise(rng, size, period_um / step_um)

    return noise


def bell(value: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bell curve: 1 at 0, 1/e at -1 and 1."""
    return np.exp(-(value**2))


def rotated(
    y: NDArray[np.floating], x: NDArray[np.floating], angle: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Coordinates across and along an axis that is turned by an angle (rad)."""
    cos = np.cos(angle)
    sin = np.sin(angle)
    return y * cos - x * sin, y * sin + x * cos


def smoothstep(value: Field, low: float, high: float) -> Field:
    """0 under `low`, 1 over `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    step: Field = (t * t * (3 - 2 * t)).astype(np.float32)
    return step


@lru_cache(maxsize=4)
def _even_torus(side: float, seed: int) -> Points:
    """Points in a repeating square, none nearer to another than 1.

    Darts are thrown at random; each keeps its place unless an earlier one is too near.
    """
    rng = np.random.default_rng(seed)
    dart = rng.random((int(side * side * _DARTS), 2)) * side
    pairs = cKDTree(dart, boxsize=side).query_pairs(1.0, output_type="ndarray")
    undecided = np.ones(len(dart), bool)
    accepted = np.zeros(len(dart), bool)
    while undecided.any():
        pairs = pairs[undecided[pairs].all(axis=1)]
        # A later dart waits for the earlier one.
        waiting = np.zeros(len(dart), bool)
        waiting[pairs.max(axis=1)] = True
        winner = undecided & ~waiting
        accepted |= winner
        undecided &= ~winner
        # Whoever is too near to a winner loses.
        first, second = pairs.T
        undecided[second[winner[first]]] = False
        undecided[first[winner[second]]] = False
    return dart[accepted]


def even_points(rng: Rng, extent: tuple[float, float], spacing: float) -> Points:
    """Irregular but evenly spread points, no two nearer than `spacing`.

    Args:
        rng: random state; it turns and shifts one fixed pattern.
        extent: height and width to fill, any unit.
        spacing: least distance, same unit.

    Returns:
        Rows (y, x) inside the extent.
    """
    side = _PATTERN_SIDE
    pattern = _even_torus(side, _PATTERN_SEED)
    angle = rng.uniform(0, 2 * np.pi)
    cos = np.cos(angle)
    sin = np.sin(angle)
    turn = np.array(
        [
            [cos, -sin],
            [sin, cos],
        ]
    )
    centre = np.array(extent) / 2
    # So many patterns in each direction cover the extent, however it is turned.
    reach = int(np.hypot(*extent) / 2 / (side * spacing)) + 2
    steps = np.arange(-reach, reach + 1) * side
    offset_y, offset_x = np.meshgrid(steps, steps, indexing="ij")
    offset = np.stack([offset_y, offset_x], -1).reshape(-1, 1, 2)
    shift = rng.random(2) * side
    points = (pattern + offset).reshape(-1, 2) + shift - side / 2
    points = points @ turn.T * spacing + centre
    after_start = (points >= 0).all(axis=1)
    before_end = (points < np.array(extent)).all(axis=1)
    contained: Points = points[after_start & before_end]
    return contained
