"""Jitted helpers that the kernels of several operations call."""

import triton
import triton.language as tl


@triton.jit
def segment_rows(offsets, bag_of, firsts, segment, rows):
    """First row of a segment, and the row after its last; see `mil.kernels.segments`."""
    bag = tl.load(bag_of + segment)
    first = tl.load(offsets + bag) + (segment - tl.load(firsts + bag)) * rows
    return first, tl.minimum(first + rows, tl.load(offsets + bag + 1))


@triton.jit
def split_float32(value, dtype: tl.constexpr):
    """Float32 as ``high + low`` of fp16 or bf16: `low` holds what rounding cuts off `high`."""
    high = value.to(dtype)
    return high, (value - high.to(tl.float32)).to(dtype)


@triton.jit
def full_dot(b_a, b_b, b_acc):
    """``acc + a @ b`` with `a` float32 and `b` of any type, without rounding `a`."""
    if b_b.dtype == tl.float32:
        b_acc = tl.dot(b_a, b_b, b_acc, input_precision="ieee")
    else:
        # Two products in half precision: the matrix units have no float32 x fp16.
        high, low = split_float32(b_a, b_b.dtype)
        b_acc = tl.dot(high, b_b, b_acc)
        b_acc = tl.dot(low, b_b, b_acc)
    return b_acc
