"""Scores of gated attention: two layers over each tile and one score a branch, in one operation."""

import torch
from jaxtyping import Float
from torch import Tensor

from mil.kernels.backend import Backend
from mil.kernels.gated_scores.common import choose_gated
from mil.kernels.gated_scores.cpu import ChunkedGatedScores
from mil.kernels.gated_scores.reference import GateWeights, gated_scores_reference

__all__ = ["Backend", "GateWeights", "gated_scores"]


def gated_scores(
    hidden: Float[Tensor, "tiles hidden"], weights: GateWeights, backend: Backend = "auto"
) -> Float[Tensor, "tiles branches"]:
    """Score each tile: ``w_i · (tanh(V h + b) ⊙ sigmoid(U h + c)) + d_i``, once per branch i.

    Ilse et al. 2018, https://arxiv.org/abs/1802.04712, eq. 9; without the gate, eq. 8.

    Args:
        hidden: the type is that of the matrix products; what comes out is float32, or
            float64 of float64.
        weights: in float32, or in the type of the hidden rows.
        backend: see `mil.kernels.backend.choose`; `cpu` is for float32 and bfloat16
            with weights in float32, `triton` for at most 16 branches.

    Raises:
        ValueError: Triton is asked for, and it is not made for these.
    """
    chosen = choose_gated(backend, hidden, weights, len(weights.score))
    if chosen == "reference":
        return gated_scores_reference(hidden, weights)
    if chosen == "cpu":
        return ChunkedGatedScores.apply(hidden, *weights)
    from mil.kernels.gated_scores.kernel import GatedScores  # Triton is needed only on this path

    with torch.cuda.device_of(hidden):  # where Triton launches
        return GatedScores.apply(hidden, *weights)
