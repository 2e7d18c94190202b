"""Gated attention, shared by the heads that use it."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags
from mil.heads._pooling import Pooling, pool_by
from mil.kernels.dispatch import at_least_float32
from mil.kernels.gated_attn_pool import Mask, TrunkWeights, gated_attn_pool
from mil.kernels.gated_scores import GateWeights, gated_scores


class GatedAttention(nn.Module):
    """Score each tile, once per branch: ``w_i · (tanh(V h + b_V) ⊙ sigmoid(U h + b_U)) + b_i``.

    Ilse et al. 2018, https://arxiv.org/abs/1802.04712, eq. 9; without the gate, eq. 8.
    The branches share V and U.
    """

    def __init__(
        self, hidden: int, attention: int, branches: int, dropout: float = 0.0, gated: bool = True
    ) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention) if gated else None
        self.score = nn.Linear(attention, branches)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "tiles hidden"]) -> Float[Tensor, "tiles branches"]:
        """Scores before the softmax, float32 whatever the precision of the rest."""
        if not (self.training and self.dropout.p):
            return gated_scores(hidden, self.weights())
        # Dropout lies between the gates and the score: the fused operation has no place
        # for it.
        values = torch.tanh(self.value(hidden))
        if self.gate is not None:
            values = values * torch.sigmoid(self.gate(hidden))
        return at_least_float32(self.score(self.dropout(values)))

    def weights(self) -> GateWeights:
        """Parameters, as `mil.kernels.gated_scores` takes them."""
        value = self.value
        gate = self.gate
        score = self.score
        return GateWeights(
            value=value.weight,
            value_bias=value.bias,
            gate=None if gate is None else gate.weight,
            gate_bias=None if gate is None else gate.bias,
            score=score.weight,
            score_bias=score.bias,
        )


def reduce_and_pool(
    reduce: nn.Sequential, attention: GatedAttention, bags: Bags, mask: Mask | None = None
) -> Pooling:
    """Reduce each tile, score it, mask some scores, pool each bag.

    Without dropout all of it is one operation, much faster and leaner on a CPU; with
    dropout it runs layer by layer.

    Args:
        reduce: linear layer without bias, ReLU, dropout.
        attention: module that scores the reduced tiles.
        bags: bags to pool.
        mask: function of the scores, see `gated_attn_pool`.

    Returns:
        Pooled rows and scores, float32 at least.
    """
    linear = cast(nn.Linear, reduce[0])
    dropout = cast(nn.Dropout, reduce[2])
    if attention.training and (dropout.p or attention.dropout.p):
        hidden = reduce(bags.features)  # [tiles, hidden]
        scores = attention(hidden)
        scores = mask(scores) if mask else scores
        pooled = pool_by(scores, hidden, bags.offsets)
        return pooled._replace(rows=at_least_float32(pooled.rows))
    weights = TrunkWeights(linear.weight, *attention.weights())
    return Pooling(*gated_attn_pool(bags.features, weights, bags.offsets, mask))


def default_hidden(hidden: int | None, dim: int) -> int:
    """Width after the reducer: the recipe's, else half of the feature dimension.

    Half is ACMIL's rule of thumb.
    """
    return hidden or max(1, dim // 2)
