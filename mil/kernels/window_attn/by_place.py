"""Attention within a window, a place of the window at a time: for rows anywhere."""

import torch
from torch import Tensor

from mil.kernels.dispatch import at_least_float32


def attended(
    queries: Tensor, keys: Tensor, values: Tensor, neighbours: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Averaged rows of some queries, and the log-sum-exps of their scores.

    Args:
        queries: [queries, heads, width].
        keys: [rows, key heads, width].
        values: [rows, key heads, value width].
        neighbours: [window, queries], numbers of rows; below 0: there is none.
        bias: [window, heads].
    """
    q = _scaled(queries, keys.shape[1])
    m = q.new_full(q.shape[:3], -torch.inf)
    l = torch.zeros_like(m)  # noqa: E741
    acc = q.new_zeros(*q.shape[:3], values.shape[2])
    for place, row_bias in zip(neighbours, _by_key_head(bias, keys.shape[1]), strict=True):
        s, v = _scores(q, _taken(keys, place), place, row_bias), _taken(values, place)
        m_next = torch.maximum(m, s)
        factor = _exp_of_difference(m, m_next)
        p = _exp_of_difference(s, m_next)
        l = l * factor + p  # noqa: E741
        acc = acc * factor[..., None] + p[..., None] * v
        m = m_next
    return (acc / l[..., None]).flatten(1, 2), (m + l.log()).flatten(1, 2)


def backward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    neighbours: Tensor,
    bias: Tensor,
    do: Tensor,
    lse: Tensor,
    delta: Tensor,
    dk: Tensor,
    dv: Tensor,
    d_bias: Tensor,
) -> Tensor:
    """Gradient of some queries; their part of those of keys, values and biases is added.

    Args:
        queries: As in `attended`, and so the next four.
        keys: See there.
        values: See there.
        neighbours: See there.
        bias: See there.
        do: Gradient of the averaged rows, [queries, heads, value width].
        lse: [queries, heads].
        delta: Sums of `do` times the averaged rows, [queries, heads].
        dk: Sum to add the keys' gradient to.
        dv: The same of the values.
        d_bias: The same of the biases.
    """
    key_heads = keys.shape[1]
    q = _scaled(queries, key_heads)
    do, lse, delta = (each.unflatten(1, (key_heads, -1)) for each in (do, lse, delta))
    dq = torch.zeros_like(q)
    of_places = zip(neighbours, _by_key_head(bias, key_heads), d_bias, strict=True)
    for place, row_bias, d_row_bias in of_places:
        k, v = _taken(keys, place), _taken(values, place)
        # Where there is no neighbour the score is minus infinity, and p is 0.
        p = (_scores(q, k, place, row_bias) - lse).exp()
        ds = p * ((do * v).sum(-1) - delta)
        dq += ds[..., None] * k
        index = place.clamp(min=0)
        dk.index_add_(0, index, (ds[..., None] * q).sum(2))
        dv.index_add_(0, index, (p[..., None] * do).sum(2))
        d_row_bias += ds.sum(0).flatten()
    return dq.flatten(1, 2) * queries.shape[2] ** -0.5


def _scaled(queries: Tensor, key_heads: int) -> Tensor:
    """Queries [rows, key heads, heads a key head, width], divided by sqrt(width)."""
    scaled = at_least_float32(queries) * queries.shape[2] ** -0.5
    return scaled.unflatten(1, (key_heads, -1))


def _by_key_head(bias: Tensor, key_heads: int) -> Tensor:
    return at_least_float32(bias).unflatten(1, (key_heads, -1))


def _taken(rows: Tensor, place: Tensor) -> Tensor:
    """Rows at a place of the window [rows, key heads, 1, width]; any row for none."""
    return at_least_float32(rows.index_select(0, place.clamp(min=0)))[:, :, None]


def _scores(q: Tensor, k: Tensor, place: Tensor, bias: Tensor) -> Tensor:
    """Scores [rows, key heads, heads a key head]; minus infinity where there is no neighbour."""
    scores = (q * k).sum(-1) + bias
    return scores.masked_fill(place[:, None, None] < 0, -torch.inf)


def _exp_of_difference(value: Tensor, largest: Tensor) -> Tensor:
    """``exp(value - largest)``; 0 where both are minus infinity."""
    return (value - largest).nan_to_num(nan=-torch.inf).exp()
