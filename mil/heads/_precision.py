"""What of a head stays in float32 when the rest is computed in half precision."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Linear):
    """A linear layer computed in the precision of its parameters, under autocast too: it is small."""

    def forward(self, rows: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows classes"]:
        """Logits."""
        with torch.autocast(rows.device.type, enabled=False):
            return super().forward(rows.to(self.weight.dtype))
