"""Scores of gated attention: two layers over each tile, then one score for each branch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mil.kernels.dispatch import FAST, Backend, Chosen, choose_backend
from mil.kernels.gated_scores.function import CpuGatedScores, GatedScoresFunction
from mil.kernels.gated_scores.reference import GateWeights, gated_scores_reference

__all__ = ["Backend", "GateWeights", "choose_gated", "gated_scores"]

# The narrowest block that a GPU's matrix units multiply by; branches are padded to it.
MAX_BRANCHES = 16
# Numbers of hidden rows up to which plain torch is faster on a CPU: its calls are fewer.
SMALL = 1 << 17
CPU_DTYPES = (torch.float32, torch.bfloat16)


def gated_scores(
    hidden: Float[Tensor, "tiles hidden"], weights: GateWeights, backend: Backend = "auto"
) -> Float[Tensor, "tiles branches"]:
    """Score each tile: ``w_i · (tanh(V h + b) ⊙ sigmoid(U h + c)) + d_i``, once per branch i.

    Ilse et al. 2018, https://arxiv.org/abs/1802.04712, eq. 9; without the gate, eq. 8.

    Args:
        hidden: hidden rows; matrix products are computed in their type.
        weights: parameters, in float32 or in the type of the hidden rows.
        backend: see `mil.kernels.dispatch.choose_backend`; `cpu` needs float32 or
            bfloat16 with weights in float32, `triton` at most 16 branches.

    Returns:
        Scores in float32, or in float64 for hidden rows of float64.

    Raises:
        ValueError: `backend` is "triton", and it does not support these tensors.
    """
    chosen = choose_gated(backend, hidden, weights, len(weights.score))
    if chosen == "reference":
        return gated_scores_reference(hidden, weights)
    if chosen == "cpu":
        return CpuGatedScores.apply(hidden, *weights)
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(hidden):
        return GatedScoresFunction.apply(hidden, *weights)


def choose_gated(
    backend: Backend, features: Tensor, weights: Sequence[Tensor | None], branches: int
) -> Chosen:
    """`mil.kernels.dispatch.choose_backend`, where `auto` knows the limits of the fast forms.

    Args:
        backend: requested backend.
        features: features, or hidden rows.
        weights: parameters; None for one that is absent.
        branches: number of branches.

    Raises:
        ValueError: `backend` is "triton", and the features are float64 or there are
            more
            than 16 branches.
    """
    chosen = choose_backend(backend, features, *weights)
    if chosen == "triton":
        supported = branches <= MAX_BRANCHES and features.dtype in FAST
        if backend == "triton" and not supported:
            raise ValueError(
                f"gated attention by Triton supports at most {MAX_BRANCHES} branches in fp16, bf16 "
                f"or fp32; got {branches} branches of {features.dtype}"
            )
        return chosen if supported else "reference"
    if chosen == "cpu" and backend == "auto":
        if features.dtype == torch.float32 and _is_small(features, weights):
            return "reference"
        full = all(weight is None or weight.dtype == torch.float32 for weight in weights)
        return chosen if full and features.dtype in CPU_DTYPES else "reference"
    return chosen


def _is_small(features: Tensor, weights: Sequence[Tensor | None]) -> bool:
    first = weights[0]
    # Rounding of the fast form is another one in bf16.
    return (
        first is not None
        and features.dtype == torch.float32
        and len(features) * len(first) <= SMALL
    )
