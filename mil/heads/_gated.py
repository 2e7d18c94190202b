"""Gated attention, shared by the heads that use it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import Bags
from mil.heads._dropout import Dropout
from mil.heads._pooling import Pooling, pool_by
from mil.kernels.dispatch import at_least_float32
from mil.kernels.dropout import KeepMask, draw_keep_mask
from mil.kernels.gated_attn_pool import (
    Mask,
    TrunkDropout,
    TrunkWeights,
    gated_attn_pool,
    supports_dropout,
)
from mil.kernels.gated_scores import GateWeights, gated_scores


class GatedScores(nn.Module, ABC):
    """Score each tile, once per branch: ``w_i · (tanh(V h + b_V) ⊙ sigmoid(U h + b_U)) + b_i``.

    Ilse et al. 2018, https://arxiv.org/abs/1802.04712, eq. 9; without the gate, eq. 8.
    The branches share V and U. A subclass names their layers.
    """

    score: nn.Linear
    dropout: Dropout  # on the product of the gates

    @abstractmethod
    def gates(self) -> tuple[nn.Linear, nn.Linear | None]:
        """Layers V and U."""

    def forward(self, hidden: Float[Tensor, "tiles hidden"]) -> Float[Tensor, "tiles branches"]:
        """Scores before the softmax, float32 whatever the precision of the rest."""
        if not (self.training and self.dropout.p):
            return gated_scores(hidden, self.weights())
        # Dropout lies between the gates and the score: `gated_scores` has no place for it.
        value, gate = self.gates()
        values = torch.tanh(value(hidden))
        if gate is not None:
            values = values * torch.sigmoid(gate(hidden))
        return at_least_float32(self.score(self.dropout(values)))

    def weights(self) -> GateWeights:
        """Parameters, as `mil.kernels.gated_scores` takes them."""
        value, gate = self.gates()
        score = self.score
        return GateWeights(
            value=value.weight,
            value_bias=value.bias,
            gate=None if gate is None else gate.weight,
            gate_bias=None if gate is None else gate.bias,
            score=score.weight,
            score_bias=score.bias,
        )


class GatedAttention(GatedScores):
    """Gated scores, or plain ones without U."""

    def __init__(
        self, hidden: int, attention: int, branches: int, dropout: float = 0.0, gated: bool = True
    ) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention) if gated else None
        self.score = nn.Linear(attention, branches)
        self.dropout = Dropout(dropout)

    def gates(self) -> tuple[nn.Linear, nn.Linear | None]:
        """Layers V and U."""
        return self.value, self.gate


class Trunk(NamedTuple):
    """Pooled bags, and the hidden rows of single tiles on demand."""

    pooling: Pooling
    hidden: Callable[[Int[Tensor, " some"]], Float[Tensor, "some hidden"]]  # by row


def reduce_and_pool(
    reduce: nn.Sequential, attention: GatedScores, bags: Bags, mask: Mask | None = None
) -> Pooling:
    """Reduce each tile, score it, mask some scores, pool each bag.

    On a CPU all of it is one operation, much faster and leaner; on a GPU with dropout,
    and with a mixture of experts, it runs layer by layer.

    Args:
        reduce: linear layer or `mil.heads._reducer.Experts`, ReLU, dropout.
        attention: module that scores the reduced tiles.
        bags: bags to pool.
        mask: function of the scores, see `gated_attn_pool`.

    Returns:
        Pooled rows and scores, float32 at least.
    """
    return run_trunk(reduce, attention, bags, mask).pooling


def reduce_and_score(
    reduce: nn.Sequential, attention: GatedScores, features: Float[Tensor, "tiles dim"]
) -> Pooling:
    """Rows [tiles, 1, hidden], for all branches, and scores of tiles that are each a bag."""
    hidden = reduce(features)
    return Pooling(at_least_float32(hidden)[:, None], attention(hidden))


def run_trunk(
    reduce: nn.Sequential, attention: GatedScores, bags: Bags, mask: Mask | None = None
) -> Trunk:
    """`reduce_and_pool`, and the reduced tiles on demand; see there."""
    linear = reduce[0]
    if not isinstance(linear, nn.Linear):
        return _run_layers(reduce, attention, bags, mask)
    hidden_dropout = cast(nn.Dropout, reduce[2])
    weights = TrunkWeights(linear.weight, *attention.weights(), linear.bias)
    rates = (hidden_dropout.p, attention.dropout.p) if attention.training else (0.0, 0.0)
    if any(rates) and not supports_dropout(bags.features, weights):
        return _run_layers(reduce, attention, bags, mask)
    tiles = bags.features.shape[0]
    # In the order of the layers, which draw the same.
    widths = (linear.out_features, attention.score.in_features)
    masks = [
        draw_keep_mask(tiles, width, rate) if rate else None
        for width, rate in zip(widths, rates, strict=True)
    ]
    dropout = TrunkDropout(*masks)
    pooled = gated_attn_pool(bags.features, weights, bags.offsets, mask, dropout=dropout)
    return Trunk(Pooling(*pooled), partial(_hidden_rows, linear, bags.features, dropout.hidden))


def _hidden_rows(
    linear: nn.Linear, features: Tensor, dropped: KeepMask | None, rows: Tensor
) -> Tensor:
    """Hidden rows of some tiles, computed again: the operation keeps them to itself."""
    hidden = functional.relu(linear(features[rows]))
    return hidden if dropped is None else hidden * dropped.keep[rows] * dropped.scale


def _run_layers(
    reduce: nn.Sequential, attention: GatedScores, bags: Bags, mask: Mask | None
) -> Trunk:
    hidden = reduce(bags.features)  # [tiles, hidden]
    scores = attention(hidden)
    scores = mask(scores) if mask else scores
    pooled = pool_by(scores, hidden, bags.offsets)
    return Trunk(pooled._replace(rows=at_least_float32(pooled.rows)), hidden.__getitem__)


def default_hidden(hidden: int | None, dim: int) -> int:
    """Width after the reducer: the recipe's, else half of the feature dimension.

    Half is ACMIL's rule of thumb.
    """
    return hidden or max(1, dim // 2)
