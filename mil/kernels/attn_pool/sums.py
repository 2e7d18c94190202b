"""Sums that attention pooling is made of, and what its gradient needs of each bag; plain torch.

With a = exp(s - log_total) the attention of a branch, P the gradient of its pooled row,
h that of its entropy H, l that of its log_total, p that of the products G and pull = p
+ pᵀ, the gradient of the score of a tile x is

    a_i (x·P_i + sum_j pull_ij a_j - h_i log a_i - shift_i)
    shift_i = P_i·pooled_i + sum_j pull_ij G_ij + h_i H_i - l_i

and that of the tile sum_i a_i P_i. Nothing in them but x and a is a tile's own.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mil.bags import AttentionStats


class Sums(NamedTuple):
    """Sums over each bag's tiles of ``w = exp(score - top)``; of a bag without tiles zero, and top minus infinity."""

    rows: Float[Tensor, "bags branches dim"]  # sum of w x
    top: Float[
        Tensor, "bags branches"
    ]  # highest score. Apart from the total: beside a top of -1e9 (a bag whose tiles
    total: Float[
        Tensor, "bags branches"
    ]  # are all masked) float32 has no room for its logarithm. Sum of w
    spread: Float[Tensor, "bags branches"]  # sum of w (score - top)
    products: Float[Tensor, "bags branches branches"]  # sum of w_i w_j

    def merge(self, other: "Sums") -> "Sums":
        """Sums over the tiles of both; the same bits for the same order of merging."""
        top = torch.maximum(self.top, other.top)
        mine = self._beside(top)
        theirs = other._beside(top)
        return Sums(*(a + b for a, b in zip(mine, theirs, strict=True)))._replace(top=top)

    def _beside(self, top: Tensor) -> "Sums":
        """The same sums, of w relative to a higher top."""
        gap = torch.where(self.total > 0, self.top - top, 0.0)  # none where there are no tiles
        fade = gap.exp()
        total = self.total * fade
        products = self.products * fade[:, :, None] * fade[:, None]
        return Sums(
            self.rows * fade[..., None], top, total, self.spread * fade + total * gap, products
        )

    def pooled(self) -> Float[Tensor, "bags branches dim"]:
        """Rows averaged by attention, float32; of bags that have tiles."""
        return self.rows / self.total[..., None]

    def stats(self) -> AttentionStats:
        """Statistics of the attention; of bags that have tiles."""
        log = self.total.log()
        products = self.products / (self.total[:, :, None] * self.total[:, None])
        return AttentionStats(self.top + log, log - self.spread / self.total, products)


class Gradients(NamedTuple):
    """What the gradient of any tile needs of its bag; see the head of this file."""

    top: Float[Tensor, "bags branches"]  # log_total in two parts, as in `Sums`
    log_total: Float[Tensor, "bags branches"]
    d_pooled: Float[Tensor, "bags branches dim"]
    shift: Float[Tensor, "bags branches"]
    d_entropy: Float[Tensor, "bags branches"] | None = None
    pull: Float[Tensor, "bags branches branches"] | None = None

    @classmethod
    def of(
        cls,
        sums: Sums,
        d_pooled: Float[Tensor, "bags branches dim"] | None,
        d_log_total: Float[Tensor, "bags branches"] | None = None,
        d_entropy: Float[Tensor, "bags branches"] | None = None,
        d_products: Float[Tensor, "bags branches branches"] | None = None,
    ) -> "Gradients":
        """From the gradients of what was pooled; None: has none."""
        d_pooled = torch.zeros_like(sums.rows) if d_pooled is None else d_pooled.to(sums.rows.dtype)
        shift = (d_pooled * sums.pooled()).sum(-1)
        pull = None
        if d_log_total is not None:
            shift = shift - d_log_total
        if d_entropy is not None:
            shift = shift + d_entropy * sums.stats().entropy
        if d_products is not None:
            pull = d_products + d_products.mT
            shift = shift + (pull * sums.stats().products).sum(-1)
        return cls(sums.top, sums.total.log(), d_pooled, shift, d_entropy, pull)
