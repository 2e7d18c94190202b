"""Attention of several heads of a recipe at once: their attention heads lie side by side.

The places of the tiles are the same for all, so that a stack of R heads of H attention heads
each is one operation with R · H.
"""

from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.bag_attn import bag_attn
from mil.kernels.dispatch import Backend, every_form
from mil.kernels.window_attn import window_attn


def stacked_bag_attn(
    query_offsets: Int[Tensor, " segments_plus_1"],
    key_offsets: Int[Tensor, " segments_plus_1"],
    backend: Backend,
    queries: Float[Tensor, "stack queries query_heads width"],
    keys: Float[Tensor, "stack keys key_heads width"],
    values: Float[Tensor, "stack keys key_heads value_width"],
    key_bias: Float[Tensor, "stack keys key_heads"] | None,
) -> tuple[
    Float[Tensor, "stack queries query_heads value_width"],
    Float[Tensor, "stack queries query_heads"],
]:
    """`bag_attn` of each head of a stack."""
    count = len(queries)
    bias = None if key_bias is None else _side_by_side(key_bias)
    q, k, v = (_side_by_side(rows) for rows in (queries, keys, values))
    with every_form():
        rows, lse = bag_attn(q, k, v, query_offsets, key_offsets, bias, backend=backend)
    return _one_by_one(rows, count), _one_by_one(lse, count)


def stacked_window_attn(
    neighbours: Int[Tensor, "window rows"],
    offsets: Int[Tensor, " segments_plus_1"] | None,
    backend: Backend,
    queries: Float[Tensor, "stack rows query_heads width"],
    keys: Float[Tensor, "stack rows key_heads width"],
    values: Float[Tensor, "stack rows key_heads value_width"],
    bias: Float[Tensor, "stack window query_heads"],
) -> Float[Tensor, "stack rows query_heads value_width"]:
    """`window_attn` of each head of a stack."""
    q, k, v = (_side_by_side(rows) for rows in (queries, keys, values))
    with every_form():
        rows = window_attn(q, k, v, neighbours, _side_by_side(bias), offsets, backend=backend)
    return _one_by_one(rows, len(queries))


def _side_by_side(rows: Tensor) -> Tensor:
    """Rows [stack, rows, heads, ...] as [rows, stack * heads, ...]."""
    return rows.transpose(0, 1).flatten(1, 2)


def _one_by_one(rows: Tensor, count: int) -> Tensor:
    """Inverse of `_side_by_side`, for a stack of so many heads."""
    return rows.unflatten(1, (count, -1)).transpose(0, 1)
