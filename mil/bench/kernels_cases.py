"""Sizes of `mil bench kernels`, and the least bytes and arithmetic of each operation.

Of bytes, each pass over its inputs counts once and each result once: forward, then
backward, which needs the inputs again. Of arithmetic, only that of matrix products:
gates that a kernel computes again for the gradient are not counted.
"""

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import NamedTuple

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
FLOAT32 = 4  # scores, pooled rows and parameters, whatever the features' type
INDEX = 8  # bytes of an int64
ATTENTION = 128  # width of the gates, the heads' default
HEADS = 4  # heads of attention over neighbours
NEIGHBOURS = 9  # edges into a tile: from the 8 around it, and from itself
MIX_WIDTH = 64  # columns of a head of the operations that mix tiles
RUN = 256  # tiles of a run whose tiles attend to each other
AGENTS = 49  # rows of a bag that gather from its tiles, and are asked by them
# STKIM: number of the highest scores, and the share of them that is masked.
TOP = 10
SHARE = 0.6
MAX_HIDDEN = 1024  # largest width after the reducer


class Case(NamedTuple):
    """Operation, and sizes of its inputs."""

    operation: str
    tiles: int
    dim: int
    branches: int
    bags: int
    dtype: str

    @property
    def hidden(self) -> int:
        """Width after the reducer: half of the features, as in the heads."""
        return min(self.dim // 2, MAX_HIDDEN)

    @property
    def mix_heads(self) -> tuple[int, int]:
        """Number and width of the heads of the operations that mix tiles."""
        heads = max(1, self.dim // MIX_WIDTH)
        return heads, self.dim // heads

    def runs(self) -> list[int]:
        """Offsets of runs of at most `RUN` tiles, none of which crosses bags."""
        ends = self.offsets()
        firsts = [first for start, end in pairwise(ends) for first in range(start, end, RUN)]
        return [*firsts, self.tiles]

    def offsets(self) -> list[int]:
        """Offsets of bags of unequal length: bag b has b + 1 parts of the tiles, at least one."""
        parts = self.bags * (self.bags + 1) // 2
        sizes = [max(1, self.tiles * (bag + 1) // parts) for bag in range(self.bags)]
        sizes[-1] = self.tiles - sum(sizes[:-1])
        return [0, *accumulate(sizes)]


class Work(NamedTuple):
    """Least work of an operation."""

    moved: float  # bytes read and written
    flops: float  # multiplications and additions

    def floor_s(self, copy: float, rate: float) -> float:
        """Least time in seconds.

        Args:
            copy: bytes per second that the device reads and writes when it copies.
            rate: operations per second of a matrix product.
        """
        return max(self.moved / copy, self.flops / rate)


def work(case: Case, *, backward: bool) -> Work:
    """Least work of one pass forward, or of one forward and one backward."""
    return WORK[case.operation](case, backward)


def _attn_pool(case: Case, backward: bool) -> Work:
    """Backward reads features and scores again, and writes the gradients of both."""
    features = case.tiles * case.dim * BYTES[case.dtype]
    scores = case.tiles * case.branches * FLOAT32
    pooled = case.bags * case.branches * case.dim * FLOAT32
    product = 2 * case.tiles * case.dim * case.branches
    if not backward:
        return Work(features + scores + pooled, product)
    return Work(3 * (features + scores) + 2 * pooled, 3 * product)


def _gated_scores(case: Case, backward: bool) -> Work:
    """Backward reads the rows again and writes their gradient; parameters are small."""
    rows = case.tiles * case.dim * BYTES[case.dtype]
    scores = case.tiles * case.branches * FLOAT32
    parameters = ATTENTION * (2 * case.dim + case.branches) * FLOAT32
    product = 2 * case.tiles * ATTENTION * (2 * case.dim + case.branches)
    if not backward:
        return Work(rows + scores + parameters, product)
    return Work(3 * rows + 2 * scores + 3 * parameters, 3 * product)


def _gated_attn_pool(case: Case, backward: bool) -> Work:
    """Features get no gradient: backward only reads them, and has one reducer product."""
    features = case.tiles * case.dim * BYTES[case.dtype]
    scores = case.tiles * case.branches * FLOAT32
    parameters = (case.hidden * case.dim + ATTENTION * (2 * case.hidden + case.branches)) * FLOAT32
    reduce = 2 * case.tiles * case.dim * case.hidden
    score = 2 * case.tiles * ATTENTION * (2 * case.hidden + case.branches)
    pool = 2 * case.tiles * case.hidden * case.branches
    pooled = case.bags * case.branches * case.hidden * FLOAT32
    if not backward:
        return Work(features + scores + parameters + pooled, reduce + score + pool)
    moved = 2 * features + 2 * scores + 3 * parameters + 2 * pooled
    return Work(moved, 2 * reduce + 3 * (score + pool))


def _neighbour_attn(case: Case, backward: bool) -> Work:
    """Rows count once, although several tiles read each: neighbours are near in memory.

    Operations per feature of an edge: add, slope, times vector, sum, times attention,
    sum; backward four products with sums more.
    """
    rows = case.tiles * case.dim * BYTES[case.dtype]
    edges = case.tiles * NEIGHBOURS
    indices = 2 * edges * INDEX
    attention = edges * FLOAT32
    values = edges * case.dim
    if not backward:
        return Work(3 * rows + indices + attention, 6 * values)
    return Work(8 * rows + 2 * indices + 2 * attention, (6 + 8) * values)


def _topk_mask(case: Case, backward: bool) -> Work:
    """Reads and writes the scores; backward their gradient."""
    scores = case.tiles * case.branches * FLOAT32
    return Work((4 if backward else 2) * scores, 0)


def _bag_attn(case: Case, backward: bool) -> Work:
    """Products of queries and keys, and of the map and the values; five backward.

    Rows count once; backward reads queries, keys, values, results and their gradient, and
    writes three gradients.
    """
    pairs = sum((end - start) ** 2 for start, end in pairwise(case.runs()))
    return _attention(case, pairs, case.tiles, backward)


def _bag_attn_agents(case: Case, backward: bool) -> Work:
    """Every agent of a bag to its tiles, and every tile to the agents."""
    # The rows of the agents are few.
    return _attention(case, 2 * case.tiles * AGENTS, case.tiles, backward)


def _window_attn(case: Case, backward: bool) -> Work:
    """Every tile to its neighbours; the places of a window are read once a pass."""
    work = _attention(case, case.tiles * NEIGHBOURS, case.tiles, backward)
    places = case.tiles * NEIGHBOURS * INDEX
    return work._replace(moved=work.moved + (2 if backward else 1) * places)


def _attention(case: Case, pairs: int, rows: int, backward: bool) -> Work:
    heads, width = case.mix_heads
    columns = heads * width
    row_bytes = rows * columns * BYTES[case.dtype]
    product = 2 * pairs * columns
    logs = rows * heads * FLOAT32
    if not backward:
        return Work(4 * row_bytes + logs, 2 * product)
    return Work(12 * row_bytes + 2 * logs, 7 * product)


WORK: dict[str, Callable[[Case, bool], Work]] = {
    "attn_pool": _attn_pool,
    "attn_pool_stats": _attn_pool,
    "gated_scores": _gated_scores,
    "gated_attn_pool": _gated_attn_pool,
    "neighbour_attn": _neighbour_attn,
    "topk_mask": _topk_mask,
    "bag_attn": _bag_attn,
    "bag_attn_agents": _bag_attn_agents,
    "window_attn": _window_attn,
}
OPERATIONS = tuple(WORK)
WITHOUT_BRANCHES = ("neighbour_attn", "bag_attn", "bag_attn_agents", "window_attn")
