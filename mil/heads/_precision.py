"""Layers that stay in the precision of their parameters under autocast."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Linear):
    """Linear layer that ignores autocast.

    It is small: half precision would gain nothing.
    """

    def forward(self, rows: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows classes"]:
        """Logits."""
        rows = rows.to(self.weight.dtype)
        # To switch autocast off takes longer than the layer itself.
        if not torch.is_autocast_enabled(rows.device.type):
            return super().forward(rows)
        with torch.autocast(rows.device.type, enabled=False):
            return super().forward(rows)
