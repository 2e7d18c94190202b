"""Definition of gated attention pooling, in plain torch."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mil.kernels.attn_pool.reference import attn_pool_reference
from mil.kernels.dispatch import at_least_float32
from mil.kernels.gated_scores.reference import GateWeights, gated_scores_reference

Mask = Callable[[Tensor], Tensor]


class TrunkWeights(NamedTuple):
    """Parameters of a reducer and of gated scores, in the order of the operation's gradients."""

    reducer: Float[Tensor, "hidden dim"]
    value: Float[Tensor, "attention hidden"]
    value_bias: Float[Tensor, " attention"]
    gate: Float[Tensor, "attention hidden"] | None  # None: tanh alone
    gate_bias: Float[Tensor, " attention"] | None
    score: Float[Tensor, "branches attention"]
    score_bias: Float[Tensor, " branches"]

    @property
    def gates(self) -> GateWeights:
        """Parameters of the scores alone."""
        return GateWeights(*self[1:])


def gated_attn_pool_reference(
    features: Float[Tensor, "tiles dim"],
    weights: TrunkWeights,
    offsets: Int[Tensor, " bags_plus_1"],
    mask: Mask | None = None,
) -> tuple[Float[Tensor, "bags branches hidden"], Float[Tensor, "tiles branches"]]:
    """``h = relu(W x)``, ``s = mask(gated_scores(h))``, ``o = softmax(s)ᵀ h`` for each bag.

    Returns:
        o and s.
    """
    hidden = functional.linear(features, weights.reducer.to(features.dtype)).relu()
    scores = gated_scores_reference(hidden, weights.gates)
    if mask is not None:
        scores = mask(scores)
    return at_least_float32(attn_pool_reference(scores, hidden, offsets)), scores
