"""Branches left out one at a time: what each does to the logits."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import log_attention


class Ablated(NamedTuple):
    """Logits of bags as they are and without each branch, and where the branches attend."""

    whole: Float[Tensor, "bags classes"]
    without: Float[Tensor, "bags branches classes"]
    # Each column sums to 1 over a bag.
    attention: Float[Tensor, "tiles branches"]
    # Whether a branch is that of a class, so that those of several heads correspond.
    per_class: bool = False


def mean_of_others(
    rows: Float[Tensor, "bags branches *shape"],
) -> Float[Tensor, "bags branches *shape"]:
    """For each branch the mean of the rows of all other branches; there are at least two."""
    return (rows.sum(1, keepdim=True) - rows) / (rows.shape[1] - 1)


def without_each(
    values: Float[Tensor, "bags branches width"],
) -> Float[Tensor, "branches bags branches width"]:
    """Values with those of one branch after the other set to 0."""
    branches = values.shape[1]
    kept = 1 - torch.eye(branches, dtype=values.dtype, device=values.device)
    return values * kept[:, None, :, None]


def attention_of(
    scores: Float[Tensor, "tiles branches"], offsets: Int[Tensor, " bags_plus_1"]
) -> Float[Tensor, "tiles branches"]:
    """Attention of each branch, which sums to 1 over a bag."""
    return log_attention(scores, offsets).exp()
