"""What kernels of several operations share."""

import triton
import triton.language as tl


@triton.jit
def piece_of(offsets, bag_of, firsts, piece, rows):
    """First row of a piece, and the row after its last; see `mil.kernels.pieces`."""
    bag = tl.load(bag_of + piece)
    first = tl.load(offsets + bag) + (piece - tl.load(firsts + bag)) * rows
    return first, tl.minimum(first + rows, tl.load(offsets + bag + 1))


@triton.jit
def halves(value, dtype: tl.constexpr):
    """Numbers of float32 as sums of two of half precision: what rounding takes from the first is in the second."""
    high = value.to(dtype)
    return high, (value - high.to(tl.float32)).to(dtype)
