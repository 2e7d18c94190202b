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


@triton.jit
def head_rows(values, o_row, m_row, heads, head, width, WIDTH: tl.constexpr):
    """``values[row, head]`` of several rows, [rows, WIDTH]; 0 where masked."""
    o_w = tl.arange(0, WIDTH)
    m_rw = m_row[:, None] & (o_w < width)[None, :]
    p_rw = values + (o_row * heads + head)[:, None] * width + o_w[None, :]
    return tl.load(p_rw, mask=m_rw, other=0.0)


@triton.jit
def store_head_rows(values, b_row, o_row, m_row, heads, head, width, WIDTH: tl.constexpr):
    """``values[row, head] = b_row`` of several rows."""
    o_w = tl.arange(0, WIDTH)
    m_rw = m_row[:, None] & (o_w < width)[None, :]
    p_rw = values + (o_row * heads + head)[:, None] * width + o_w[None, :]
    tl.store(p_rw, b_row.to(values.dtype.element_ty), mask=m_rw)
