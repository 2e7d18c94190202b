"""Sums that attention pooling consists of, and the closed form of its gradient; plain torch.

Of one bag, with s the scores and x the features of its tiles, for each branch:

    m = max s           z = s - m           p = exp(z)
    l = sum p           acc = sum p x       pz = sum p z        pp_ij = sum p_i p_j
    o = acc / l         lse = m + log l     H = log l - pz / l  G_ij = pp_ij / (l_i l_j)

o is the pooled row, H the entropy of the attention p / l, G its Gram matrix. m and log
l are kept apart: beside m = -1e9 (a bag whose tiles are all masked), float32 has no
room for log l.

Backward, with p = exp(s - lse) from here on, d the gradient of the loss, and
dS = dG + dGᵀ the symmetrised gradient of G:

    dp_i  = x·do_i
    ds_i  = p_i (dp_i + sum_j dS_ij p_j - dH_i log p_i - delta_i)
    delta_i = do_i·o_i + sum_j dS_ij G_ij + dH_i H_i - dlse_i
    dx    = sum_i p_i do_i

With dG = dH = dlse = 0 this is FlashAttention's ``ds = p (dp - delta)``, ``delta =
do·o`` (Dao et al. 2022, https://arxiv.org/abs/2205.14135). Only x and p belong to one
tile; all the rest is shared by a bag.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mil.bags import AttentionStats


class SoftmaxSums(NamedTuple):
    """Sums over each bag's tiles; for a bag without tiles all are 0 and m is -inf.

    A monoid under `merge`: a bag may be summed in any number of parts.
    """

    acc: Float[Tensor, "bags branches dim"]
    m: Float[Tensor, "bags branches"]
    l: Float[Tensor, "bags branches"]  # noqa: E741  FlashAttention's symbol
    pz: Float[Tensor, "bags branches"]
    pp: Float[Tensor, "bags branches branches"]

    def merge(self, other: "SoftmaxSums") -> "SoftmaxSums":
        """Sums over the tiles of both; the same bits for the same order of merging."""
        m = torch.maximum(self.m, other.m)
        left = self._relative_to(m)
        right = other._relative_to(m)
        total = SoftmaxSums(*(a + b for a, b in zip(left, right, strict=True)))
        return total._replace(m=m)

    def _relative_to(self, m: Tensor) -> "SoftmaxSums":
        """These sums, with p relative to a higher maximum."""
        # A part without tiles has m = -inf, and -inf - -inf would be NaN.
        shift = torch.where(self.l > 0, self.m - m, 0.0)
        rescale = shift.exp()
        l = self.l * rescale  # noqa: E741
        pp = self.pp * rescale[:, :, None] * rescale[:, None]
        acc = self.acc * rescale[..., None]
        pz = self.pz * rescale + l * shift
        return SoftmaxSums(acc, m, l, pz, pp)

    def pooled(self) -> Float[Tensor, "bags branches dim"]:
        """Pooled rows ``o = acc / l``, float32; every bag must have tiles."""
        return self.acc / self.l[..., None]

    def stats(self) -> AttentionStats:
        """Log-sum-exp, entropy and Gram matrix; every bag must have tiles."""
        log_l = self.l.log()
        lse = self.m + log_l
        entropy = log_l - self.pz / self.l
        l_pairs = self.l[:, :, None] * self.l[:, None]
        return AttentionStats(lse, entropy, self.pp / l_pairs)


class BagGradients(NamedTuple):
    """What the gradients of all tiles of a bag share; see the head of this file."""

    m: Float[Tensor, "bags branches"]
    log_l: Float[Tensor, "bags branches"]  # lse = m + log_l
    do: Float[Tensor, "bags branches dim"]
    delta: Float[Tensor, "bags branches"]
    d_entropy: Float[Tensor, "bags branches"] | None = None
    d_gram_sym: Float[Tensor, "bags branches branches"] | None = None  # dG + dGᵀ

    @classmethod
    def of(
        cls,
        sums: SoftmaxSums,
        do: Float[Tensor, "bags branches dim"] | None,
        d_lse: Float[Tensor, "bags branches"] | None = None,
        d_entropy: Float[Tensor, "bags branches"] | None = None,
        d_gram: Float[Tensor, "bags branches branches"] | None = None,
    ) -> "BagGradients":
        """Gradients shared by a bag, from those of the pooled rows and of `AttentionStats`.

        None stands for an output that has no gradient.
        """
        if do is None:
            do = torch.zeros_like(sums.acc)
        do = do.to(sums.acc.dtype)
        delta = (do * sums.pooled()).sum(-1)
        d_gram_sym = None
        if d_lse is not None:
            delta = delta - d_lse
        if d_entropy is not None:
            delta = delta + d_entropy * sums.stats().entropy
        if d_gram is not None:
            d_gram_sym = d_gram + d_gram.mT
            delta = delta + (d_gram_sym * sums.stats().products).sum(-1)
        return cls(sums.m, sums.l.log(), do, delta, d_entropy, d_gram_sym)
