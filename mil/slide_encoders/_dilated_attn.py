"""Dilated attention of LongNet: cost and memory that grow linearly with the tokens.

Ding et al. 2023, LongNet: scaling transformers to 1,000,000,000 tokens, section 2.2,
https://arxiv.org/abs/2307.02486.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.bag_attn import bag_attn


class Branch(NamedTuple):
    """One pattern of dilated attention."""

    segment: int  # tokens of a segment; attention stays within it
    ratio: int  # a head sees every `ratio`-th token of a segment


class Runs(NamedTuple):
    """Tokens of a branch, ordered so that those of one softmax follow each other."""

    order: Int[Tensor, " tokens"]
    group: Int[Tensor, " tokens"]  # group of heads that sees the token
    offsets: Int[Tensor, " runs_plus_1"]
    num_empty: Int[Tensor, " tokens"]  # places of the token's run that hold no token


def dilated_attn(
    queries: Float[Tensor, "tokens heads width"],
    keys: Float[Tensor, "tokens heads width"],
    values: Float[Tensor, "tokens heads width"],
    branches: Sequence[Branch],
) -> Float[Tensor, "tokens heads width"]:
    """Attention within segments, of each head to every r-th token, over all branches.

    In a branch of ratio r the heads are r equal groups, and group g sees the tokens g,
    g + r, g + 2r ... of a segment. Branches are weighted by the sums of their softmaxes
    (equations 9 and 10): of a query they are one softmax over the keys of all branches.

    As in the published implementation, a segment longer than the sequence is cut to it,
    and places at the end of a segment that hold no token count as keys and values of
    zeros. They take no memory here.

    Args:
        queries: Queries of the tokens, in their order.
        keys: Their keys.
        values: Their values.
        branches: Patterns. The ratios divide the number of heads, and one is 1, so that
            each head sees each token.
    """
    rows = torch.zeros_like(values)
    lse = torch.full_like(values[..., 0], -torch.inf)
    for branch in branches:
        runs = runs_of(len(queries), branch, queries.device)
        at = (runs.order, runs.group)
        # Indexing a view by group of heads takes of each token the heads that see it.
        q = _by_group(queries, branch)[at]
        k = _by_group(keys, branch)[at]
        v = _by_group(values, branch)[at]
        part, log = bag_attn(q, k, v, runs.offsets, runs.offsets)
        grouped = _by_group(rows, branch)
        grouped_lse = _by_group(lse, branch)
        before = grouped_lse[at]
        empty = runs.num_empty.to(log).log()[:, None]
        total = before.logaddexp(log).logaddexp(empty)
        kept = grouped[at].mul_((before - total).exp_()[..., None])
        grouped[at] = kept.addcmul_(part, (log - total).exp_()[..., None])
        grouped_lse[at] = total
    return rows


def _by_group(heads: Tensor, branch: Branch) -> Tensor:
    """View of [tokens, heads, ...] as [tokens, groups, heads of a group, ...]."""
    return heads.unflatten(1, (branch.ratio, -1))


def runs_of(num_tokens: int, branch: Branch, device: torch.device) -> Runs:
    """Tokens that attend to each other in a branch.

    Args:
        num_tokens: Length of the sequence.
        branch: Pattern.
        device: Device of the tensors.
    """
    segment = min(branch.segment, num_tokens)
    num_segments = -(-num_tokens // segment)
    places = torch.arange(num_tokens, device=device)
    group = places % segment % branch.ratio
    run = group * num_segments + places // segment
    order = run.argsort(stable=True)
    counts = run.bincount(minlength=branch.ratio * num_segments)
    places_of_run = -(-segment // branch.ratio)
    return Runs(
        order=order,
        group=group[order],
        offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        num_empty=(places_of_run - counts)[run[order]],
    )
