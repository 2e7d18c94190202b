"""An encoder at work: pixels in, features out."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn


@dataclass(frozen=True)
class Encoder:
    """A frozen model on its device with the preprocessing its weights expect.

    `identity` is what a bag says of its encoder: `encoder`, `encoder_revision`, `weights_sha256`, `transform` and
    `precision`.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    dtype: torch.dtype
    identity: dict[str, str]

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[Tensor, "tiles height width 3"]) -> Float[Tensor, "tiles dim"]:
        """Features of a batch of tiles, float32, on the CPU."""
        # Channels last is the memory order the pixels already have, and the faster one for convolutions.
        batch = pixels.to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] * 255 for v in (self.mean, self.std))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model((batch - mean) / std).float().cpu()
