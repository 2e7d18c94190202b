"""What of a head stays in float32 when the rest is computed in half precision."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(scores: Float[Tensor, "tiles branches"]) -> Float[Tensor, "tiles branches"]:
    """Scores for a softmax: float32 instead of half precision, whose range has no room for masked tiles."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
