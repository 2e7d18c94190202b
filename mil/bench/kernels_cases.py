"""What `mil bench kernels` gives each operation, and the least that must be read, written and multiplied for it.

Of bytes, each pass over its inputs counts once and each result once: forward, then
backward, which needs the inputs again. Of arithmetic, only that of products: gates that
are computed again for the gradient are the kernel's affair.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
FLOAT32 = 4  # scores, pooled rows and parameters, whatever the features' type
INDEX = 8
ATTENTION = 128  # width of the gates
HEADS = 4  # of attention over neighbours
NEIGHBOURS = 9  # that a tile looks at: 8 around it, and itself
# STKIM: so many of the highest scores, of which this share is masked
TOP = 10
SHARE = 0.6
WIDEST = 1024  # inner width


class Case(NamedTuple):
    """Sizes of what an operation is given."""

    operation: str
    tiles: int
    dim: int
    branches: int
    bags: int
    dtype: str

    @property
    def hidden(self) -> int:
        """Width after the reducer: half, as the heads have it."""
        return min(self.dim // 2, WIDEST)

    def offsets(self) -> list[int]:
        """Bags of unequal length: bag b has its b + 1 parts of the tiles, and one at least."""
        parts = self.bags * (self.bags + 1) // 2
        sizes = [max(1, self.tiles * (bag + 1) // parts) for bag in range(self.bags)]
        sizes[-1] = self.tiles - sum(sizes[:-1])
        return [0, *accumulate(sizes)]


class Work(NamedTuple):
    """Least that is moved, bytes, and multiplied or added, operations."""

    moved: float
    flops: float

    def floor_s(self, copy: float, rate: float) -> float:
        """Seconds that it takes at least.

        Args:
            copy: bytes that the device reads and writes in a second when it copies.
            rate: operations of a matrix product in a second.
        """
        return max(self.moved / copy, self.flops / rate)


def work(case: Case, *, backward: bool) -> Work:
    """Of one pass forward, or of one forward and one backward."""
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
    """Features get no gradient, so that backward only reads them, and of the reducer there are two products."""
    features = case.tiles * case.dim * BYTES[case.dtype]
    scores = case.tiles * case.branches * FLOAT32
    parameters = (case.hidden * case.dim + ATTENTION * (2 * case.hidden + case.branches)) * FLOAT32
    reduce = 2 * case.tiles * case.dim * case.hidden
    score = 2 * case.tiles * ATTENTION * (2 * case.hidden + case.branches)
    pool = 2 * case.tiles * case.hidden * case.branches
    pooled = case.bags * case.branches * case.hidden * FLOAT32
    if not backward:
        return Work(features + scores + parameters + pooled, reduce + score + pool)
    return Work(
        2 * features + 2 * scores + 3 * parameters + 2 * pooled, 2 * reduce + 3 * (score + pool)
    )


def _neighbour_attn(case: Case, backward: bool) -> Work:
    """Rows count once, although each is looked at by several: neighbours are near in memory.

    For a number of an edge: add, slope, times vector, sum, times attention, sum;
    backward four products with sums more.
    """
    rows = case.tiles * case.dim * BYTES[case.dtype]
    edges = case.tiles * NEIGHBOURS
    listed = 2 * edges * INDEX
    attention = edges * FLOAT32
    numbers = edges * case.dim
    if not backward:
        return Work(3 * rows + listed + attention, 6 * numbers)
    return Work(8 * rows + 2 * listed + 2 * attention, (6 + 8) * numbers)


def _topk_mask(case: Case, backward: bool) -> Work:
    """Scores in, scores out; the same of their gradient."""
    scores = case.tiles * case.branches * FLOAT32
    return Work((4 if backward else 2) * scores, 0)


WORK: dict[str, Callable[[Case, bool], Work]] = {
    "attn_pool": _attn_pool,
    "attn_pool_stats": _attn_pool,
    "gated_scores": _gated_scores,
    "gated_attn_pool": _gated_attn_pool,
    "neighbour_attn": _neighbour_attn,
    "topk_mask": _topk_mask,
}
OPERATIONS = tuple(WORK)
