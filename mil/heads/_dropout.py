"""Dropout layer of the heads."""

from jaxtyping import Float
from torch import Tensor, nn

from mil.kernels.dropout import dropout


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, on a CPU from random bytes (`mil.kernels.dropout`)."""

    def forward(self, values: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Drop numbers in training."""
        if self.training and self.p and values.device.type == "cpu":
            return dropout(values, self.p)
        return super().forward(values)
