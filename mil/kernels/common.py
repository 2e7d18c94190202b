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


@triton.jit
def full_dot(b_a, b_b, b_sum):
    """Product of float32 and of what may be half precision, without rounding the first."""
    if b_b.dtype == tl.float32:
        b_sum = tl.dot(b_a, b_b, b_sum, input_precision="ieee")
    else:
        high, low = halves(b_a, b_b.dtype)
        b_sum = tl.dot(high, b_b, b_sum)
        b_sum = tl.dot(low, b_b, b_sum)
    return b_sum
