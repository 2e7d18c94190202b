"""What stays in float32 when the rest is computed in half precision."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(numbers: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Float32 instead of half precision, whose range has no room for the scores of masked tiles; doubles stay."""
    return numbers.float() if numbers.dtype in (torch.float16, torch.bfloat16) else numbers
