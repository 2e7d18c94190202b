"""Rows in chunks, so that what lies between two matrix products stays in a cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Rows of a chunk on a GPU are a multiple of this: each chunk then begins at an aligned
# address, whatever the width and type of its rows.
ALIGNED_ROWS = 128


def chunks(tiles: int, rows: int) -> Iterator[slice]:
    """Slices that cover all `tiles` rows, at most `rows` rows each."""
    for start in range(0, tiles, rows):
        yield slice(start, min(start + rows, tiles))


def even_rows(tiles: int, max_rows: int) -> int:
    """Rows of each chunk, at most `max_rows`: no chunk is left with few rows."""
    max_rows = max(1, max_rows)
    if max_rows < ALIGNED_ROWS:
        return max_rows
    max_rows -= max_rows % ALIGNED_ROWS
    num_chunks = max(1, -(-tiles // max_rows))
    rows = -(-tiles // num_chunks)
    return max(1, -(-rows // ALIGNED_ROWS)) * ALIGNED_ROWS


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right`` in float32, in place."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        # addmm wants one type: the product is rounded to its factors' type before it is
        # added.
        total += torch.mm(left, right)
