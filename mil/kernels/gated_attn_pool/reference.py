"""Definition of gated attention pooling, in plain torch."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mil.kernels.attn_pool.reference import attn_pool_reference
from mil.kernels.dispatch import at_least_float32
from mil.kernels.dropout import KeepMask
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
    reducer_bias: Float[Tensor, " hidden"] | None = None

    @property
    def gates(self) -> GateWeights:
        """Parameters of the scores alone."""
        return GateWeights(*self[1:-1])


class TrunkDropout(NamedTuple):
    """Dropout of the hidden rows, and of the product of both gates; None: none.

    The product's is also that of dropout on each gate: what is dropped in either is
    dropped in the product, and has no gradient.
    """

    hidden: KeepMask | None  # of [tiles, hidden]
    values: KeepMask | None  # of [tiles, attention]

    def scaled(self, weights: TrunkWeights) -> TrunkWeights:
        """Weights that scale up what is kept: ``a relu(x) = relu(a x)`` for positive a."""
        if self.hidden is not None:
            bias = weights.reducer_bias
            weights = weights._replace(
                reducer=weights.reducer * self.hidden.scale,
                reducer_bias=None if bias is None else bias * self.hidden.scale,
            )
        if self.values is not None:
            weights = weights._replace(score=weights.score * self.values.scale)
        return weights

    @property
    def keep(self) -> "TrunkKeep":
        """What is kept, without the scales."""
        return TrunkKeep(*(None if mask is None else mask.keep for mask in self))


class TrunkKeep(NamedTuple):
    """What dropout keeps: 1, and 0 for what it drops; None: all."""

    hidden: UInt8[Tensor, "tiles hidden"] | None = None
    values: UInt8[Tensor, "tiles attention"] | None = None


KEEP_ALL = TrunkKeep()


def gated_attn_pool_reference(
    features: Float[Tensor, "tiles dim"],
    weights: TrunkWeights,
    offsets: Int[Tensor, " bags_plus_1"],
    mask: Mask | None = None,
    keep: TrunkKeep = KEEP_ALL,
) -> tuple[Float[Tensor, "bags branches hidden"], Float[Tensor, "tiles branches"]]:
    """``h = relu(W x + a)``, ``s = mask(gated_scores(h))``, ``o = softmax(s)ᵀ h`` for each bag.

    `keep` multiplies h, and the product of the gates.

    Returns:
        o and s.
    """
    dtype = features.dtype
    bias = weights.reducer_bias
    cast_bias = None if bias is None else bias.to(dtype)
    hidden = functional.linear(features, weights.reducer.to(dtype), cast_bias).relu()
    if keep.hidden is not None:
        hidden = hidden * keep.hidden
    scores = gated_scores_reference(hidden, weights.gates, keep.values)
    if mask is not None:
        scores = mask(scores)
    return at_least_float32(attn_pool_reference(scores, hidden, offsets)), scores
