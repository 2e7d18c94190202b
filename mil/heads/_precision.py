"""What of a head stays in float32 when the rest is computed in half precision."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def at_least_float32(scores: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Scores for a softmax: float32 instead of half precision, whose range has no room for masked tiles."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


class Classifier(nn.Linear):
    """A linear layer computed in the precision of its parameters, under autocast too: it is small."""

    def forward(self, rows: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows classes"]:
        """Logits."""
        with torch.autocast(rows.device.type, enabled=False):
            return super().forward(rows.to(self.weight.dtype))
