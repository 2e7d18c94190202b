"""Smooth random fields, cubic B-spline sampling and evenly spread points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

Field = NDArray[np.float32]
Points = NDArray[np.float64]

_LATTICE_STD = (
    0.48  # what cubic B-spline interpolation leaves of unit white noise in two dimensions
)


def spline_weights(position: NDArray[np.floating], num_nodes: int) -> Field:
    """Cubic B-spline weights of every node at every position.

    Args:
        position: where to sample, in nodes, [n].
        num_nodes: nodes of the field; beyond its ends the last node repeats.

    Returns:
        Weights [n, num_nodes] whose rows sum to 1.
    """
    base = np.floor(position).astype(int)
    weights = np.zeros((len(position), num_nodes), np.float32)
    columns = np.clip(base[:, None] + np.arange(-1, 3), 0, num_nodes - 1)
    rows = np.arange(len(position))[:, None]
    np.add.at(weights, (rows, columns), _cubic(position - base).astype(np.float32))
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
        blocks = []
        for start in range(0, pixels, block):
            position = np.arange(start, min(start + block, pixels)) * scale
            low = max(int(position[0]) - 1, 0)
            high = min(int(position[-1]) + 3, nodes)
            blocks.append((slice(low, high), spline_weights(position - low, high - low)))
        return blocks

    def window(self, row: int, column: int) -> tuple[slice, slice]:
        """The nodes that a block reads."""
        return self._axes[0][row][0], self._axes[1][column][0]

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
    position = np.arange(num_cells) * scale
    base = np.floor(position).astype(int)
    columns = np.clip(base[:, None] + np.arange(-1, 3), 0, num_nodes - 1)
    values = _cubic(position - base).astype(np.float32)
    rows = np.repeat(np.arange(num_cells), 4)
    return sparse.csr_matrix(
        (values.ravel(), (rows, columns.ravel())), shape=(num_cells, num_nodes)
    )


def _cubic(t: NDArray[np.floating]) -> NDArray[np.floating]:
    """Weights [n, 4] of the nodes at -1, 0, 1 and 2 for a position `t` of the way from 0 to 1."""
    inner = (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    return np.stack([(1 - t) ** 3 / 6, *inner, t**3 / 6], axis=1)


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], period: float) -> Field:
    """Smooth noise of mean 0 and deviation 1.

    Args:
        rng: source of chance.
        size: rows and columns.
        period: distance of independent values, in cells.
    """
    lattice = rng.standard_normal(
        (int(size[0] / period) + 4, int(size[1] / period) + 4), dtype=np.float32
    )
    return resample(lattice, size, 1 / period) / np.float32(_LATTICE_STD)


def smoothstep(value: Field, low: float, high: float) -> Field:
    """0 under `low`, 1 over `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    step: Field = (t * t * (3 - 2 * t)).astype(np.float32)
    return step


@lru_cache(maxsize=4)
def _even_torus(side: float, seed: int) -> Points:
    """Points in a repeating square, none nearer to another than 1: random darts, first come first kept."""
    rng = np.random.default_rng(seed)
    dart = rng.random((int(side * side * 6), 2)) * side
    pairs = cKDTree(dart, boxsize=side).query_pairs(1.0, output_type="ndarray")
    undecided = np.ones(len(dart), bool)
    kept = np.zeros(len(dart), bool)
    while undecided.any():
        pairs = pairs[undecided[pairs].all(axis=1)]
        beaten = np.zeros(len(dart), bool)
        beaten[pairs.max(axis=1)] = True  # a later dart waits for the earlier one
        winner = undecided & ~beaten
        kept |= winner
        undecided &= ~winner
        undecided[pairs[winner[pairs[:, 0]]][:, 1]] = False
        undecided[pairs[winner[pairs[:, 1]]][:, 0]] = False
    return dart[kept]


def even_points(rng: np.random.Generator, extent: tuple[float, float], spacing: float) -> Points:
    """Irregular but evenly spread points, no two nearer than `spacing`.

    Args:
        rng: source of chance (turns and shifts one fixed pattern).
        extent: height and width to fill, any unit.
        spacing: least distance, same unit.

    Returns:
        Rows (y, x) inside the extent.
    """
    side = 48.0
    pattern = _even_torus(side, 5)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array(extent) / 2
    reach = int(np.hypot(*extent) / 2 / (side * spacing)) + 2
    steps = np.arange(-reach, reach + 1) * side
    offset = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 1, 2)
    points = (pattern + offset).reshape(-1, 2) + rng.random(2) * side - side / 2
    points = points @ turn.T * spacing + centre
    inside = (points >= 0).all(axis=1) & (points < np.array(extent)).all(axis=1)
    kept: Points = points[inside]
    return kept
