"""Attention within a window in a short segment, by products of all its pairs of rows.

Of a short segment a window holds a good part: products of which some are not needed cost
less than a gather for each place of the window.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.dispatch import at_least_float32
from mil.kernels.shares import exp_


class Pairs(NamedTuple):
    """Some queries and all rows of their segment, by key head, float32 at least.

    Queries of the heads that share a key head lie end to end.
    """

    q: Tensor  # [key heads, heads a key head * queries, width], by sqrt(width)
    k: Tensor  # [key heads, rows, width]
    v: Tensor  # [key heads, rows, value width]
    bias: Tensor  # [key heads, heads a key head, 1, window]
    places: Tensor  # [1, heads a key head * queries, window], number of a row; 0 for none
    absent: Tensor  # [queries, window]: there is no row


class Gradients(NamedTuple):
    """Gradients of the inputs of `pairs_of`, float32 at least."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor


def pairs_of(
    queries: Tensor, keys: Tensor, values: Tensor, neighbours: Tensor, bias: Tensor
) -> Pairs:
    """Rows of a segment as its products need them.

    Args:
        queries: [queries, heads, width].
        keys: [rows, key heads, width].
        values: [rows, key heads, value width].
        neighbours: [window, queries], numbers within the segment; below 0: there is none.
        bias: [window, heads].
    """
    key_heads = keys.shape[1]
    shared = queries.shape[1] // key_heads
    by_query = neighbours.T
    scaled = at_least_float32(queries) * queries.shape[2] ** -0.5
    return Pairs(
        q=_by_key_head(scaled, key_heads),
        k=at_least_float32(keys).transpose(0, 1),
        v=at_least_float32(values).transpose(0, 1),
        bias=at_least_float32(bias).T.reshape(key_heads, shared, 1, -1),
        places=by_query.clamp(min=0).repeat(shared, 1)[None],
        absent=by_query < 0,
    )


def attended(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Averaged rows [queries, heads, value width] and log-sum-exps [queries, heads]."""
    s = _scores(pairs)
    m = s.amax(-1, keepdim=True)
    p = exp_(s.sub_(m))
    l = p.sum(-1, keepdim=True)  # noqa: E741
    o = torch.bmm(_spread(p, pairs), pairs.v).div_(l)
    count = len(pairs.absent)
    return _by_row(o, count), _by_row(l.log_().add_(m), count)[..., 0]


def backward(pairs: Pairs, do: Tensor, lse: Tensor, delta: Tensor) -> Gradients:
    """Gradients of the inputs.

    Args:
        pairs: Rows of the segment.
        do: Gradient of the averaged rows, [queries, heads, value width].
        lse: [queries, heads].
        delta: Sums of `do` times the averaged rows, [queries, heads].
    """
    key_heads = len(pairs.k)
    do = _by_key_head(do, key_heads)
    p = exp_(_scores(pairs).sub_(_by_key_head(lse[..., None], key_heads)))
    dv = torch.bmm(_spread(p, pairs).mT, do)
    dp = _in_window(torch.bmm(do, pairs.v.mT), pairs)
    ds = dp.sub_(_by_key_head(delta[..., None], key_heads)).mul_(p)
    of_places = _by_head(ds, pairs).sum(2).flatten(0, 1)
    spread = _spread(ds, pairs)
    dq = _by_row(torch.bmm(spread, pairs.k), len(pairs.absent))
    dk = torch.bmm(spread.mT, pairs.q).transpose(0, 1)
    scale = pairs.q.shape[2] ** -0.5
    return Gradients(dq * scale, dk, dv.transpose(0, 1), of_places.T)


def _scores(pairs: Pairs) -> Tensor:
    """Scores [key heads, heads a key head * queries, window]; minus infinity for no row."""
    s = _in_window(torch.bmm(pairs.q, pairs.k.mT), pairs)
    _by_head(s, pairs).add_(pairs.bias).masked_fill_(pairs.absent, -torch.inf)
    return s


def _in_window(of_pairs: Tensor, pairs: Pairs) -> Tensor:
    """Of all pairs [key heads, ..., rows] those of the windows, [key heads, ..., window]."""
    return of_pairs.gather(2, pairs.places.expand(len(of_pairs), -1, -1))


def _spread(of_windows: Tensor, pairs: Pairs) -> Tensor:
    """Inverse of `_in_window`; 0 for all other pairs."""
    of_pairs = of_windows.new_zeros(*of_windows.shape[:2], pairs.k.shape[1])
    # Added: a place without a row, whose share is next to 0, has the number of some other row.
    return of_pairs.scatter_add_(2, pairs.places.expand(len(of_pairs), -1, -1), of_windows)


def _by_head(of_windows: Tensor, pairs: Pairs) -> Tensor:
    """View [key heads, heads a key head, queries, window]."""
    return of_windows.view(*pairs.bias.shape[:2], -1, of_windows.shape[2])


def _by_key_head(rows: Tensor, key_heads: int) -> Tensor:
    """Rows [queries, heads, width] as [key heads, heads a key head * queries, width]."""
    grouped = rows.unflatten(1, (key_heads, -1)).permute(1, 2, 0, 3)
    return grouped.reshape(key_heads, -1, rows.shape[2])


def _by_row(grouped: Tensor, count: int) -> Tensor:
    """Inverse of `_by_key_head`, for so many queries."""
    return grouped.unflatten(1, (-1, count)).permute(2, 0, 1, 3).flatten(1, 2)
