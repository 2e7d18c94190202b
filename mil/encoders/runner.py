"""An encoder at work: pixels in, features out, in steps that its memory holds."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mil.errors import ConfigError


@dataclass(frozen=True)
class Encoder:
    """A frozen model on its device with the preprocessing its weights expect.

    `identity` is what a bag says of its encoder: `encoder`, `encoder_revision`,
    `weights_sha256`, `transform` and `precision`.
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
        given = pixels.pin_memory() if self.device.type == "cuda" else pixels
        # Channels last is the memory order the pixels already have, and the faster one
        # for convolutions.
        batch = given.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
        mean, std = (
            torch.tensor(v, device=self.device)[:, None, None] * 255 for v in (self.mean, self.std)
        )
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(batch.sub_(mean).div_(std)).float().cpu()


class Feeder:
    """Feeds an encoder in steps of a size; smaller ones once its memory turns out not to hold them.

    Args:
        encoder: who computes.
        dim: length of a feature vector.
        step: tiles at a time, at most.
        whole: fill the last step up with black tiles, for a compiled model, which is
            made for one size.
    """

    def __init__(self, encoder: Encoder, dim: int, step: int, *, whole: bool = False) -> None:
        self.encoder = encoder
        self.dim = dim
        self.step = step
        self._whole = whole

    def __call__(self, pixels: UInt8[Tensor, "tiles height width 3"]) -> Float[Tensor, "tiles dim"]:
        """Features of any number of tiles.

        Raises:
            ConfigError: the memory does not hold a single tile.
        """
        features: list[Tensor] = []
        start = 0
        while start < len(pixels):
            step = self.step
            try:
                features.append(self._encode(pixels[start : start + step], step))
                start += step
                continue
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
            self._halve(
                step
            )  # not before the error is gone, which holds on to what filled the memory
        return torch.cat(features) if len(features) != 1 else features[0]

    def _encode(self, pixels: Tensor, step: int) -> Tensor:
        missing = step - len(pixels)
        if not self._whole or missing == 0:
            return self.encoder(pixels)
        return self.encoder(torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]))[
            : len(pixels)
        ]

    def _halve(self, step: int) -> None:
        if step == 1:
            raise ConfigError(no_room(self.encoder.name, self.encoder.device))
        self.step = min(self.step, step // 2)  # another thread may have halved it meanwhile
        if self.encoder.device.type == "cuda":
            torch.cuda.empty_cache()


def no_room(name: str, device: torch.device) -> str:
    """What to say when not even one tile fits."""
    return f"encoder {name}: the memory of {device} does not hold it and one tile; free some, or choose a smaller encoder"


def _is_out_of_memory(error: BaseException) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)
