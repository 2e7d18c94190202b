"""An encoder at work: pixels in, features out, in batches that its memory holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from mil.errors import ConfigError

# A small batch stays in the caches of a CPU: 16 tiles were 1.7 times as fast as 64, in
# half the memory.
CPU_BATCH_SIZE = 16
MAX_BATCH_SIZE = 256
# Batches in a GPU's queue: while one is computed, the next is prepared.
GPU_THREADS = 2
# Jobs that may share a GPU, and the share of its memory for all of them.
JOBS_PER_GPU = 2
GPU_MEMORY_SHARE = 0.9
# Tiles of the batch by which the memory per tile is measured.
PROBE_TILES = 4
# A damaged slide is read on until so many of its tiles are known to be unreadable, so
# that the count in its reason is meaningful.
MIN_UNREADABLE = 256


@dataclass(frozen=True)
class Encoder:
    """A frozen model on its device with the preprocessing that its weights expect.

    Attributes:
        name: Name of the encoder's entry.
        model: Model of normalised tiles [tiles, 3, height, width].
        mean: Mean of each channel, of pixel values from 0 to 1.
        std: Standard deviation of each channel, of pixel values from 0 to 1.
        device: Device of the model.
        dtype: Dtype of its matrix products.
        identity: Attributes of a bag about its encoder: `encoder`, `encoder_revision`,
            `weights_sha256`, `transform`, `precision`.
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
        # Only pinned memory is copied to a GPU without the host waiting.
        host = pixels.pin_memory() if self.device.type == "cuda" else pixels
        # Channels last is the memory order the pixels already have, and the faster one
        # for convolutions.
        batch = host.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
        mean = self._per_channel(self.mean)
        std = self._per_channel(self.std)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(batch.sub_(mean).div_(std)).float().cpu()

    def _per_channel(self, values: tuple[float, ...]) -> Tensor:
        # In units of uint8, which saves a pass over the pixels.
        return torch.tensor(values, device=self.device)[:, None, None] * 255


class BatchedEncoder:
    """An encoder of any number of tiles, in batches that become smaller if memory ends.

    Args:
        encoder: Encoder.
        dim: Length of a feature vector.
        batch_size: Largest number of tiles in a batch.
        pad: Whether to fill the last batch with black tiles. A compiled model needs
            it: it is compiled for one size.
    """

    def __init__(self, encoder: Encoder, dim: int, batch_size: int, *, pad: bool = False) -> None:
        self.encoder = encoder
        self.dim = dim
        self.batch_size = batch_size
        self._pad = pad

    def __call__(self, pixels: UInt8[Tensor, "tiles height width 3"]) -> Float[Tensor, "tiles dim"]:
        """Features of tiles, float32, on the CPU.

        Raises:
            ConfigError: The memory does not hold a single tile.
        """
        features: list[Tensor] = []
        start = 0
        while start < len(pixels):
            # Read once: another thread may halve it at any moment.
            size = self.batch_size
            try:
                features.append(self._encode(pixels[start : start + size], size))
                start += size
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: the error holds on to what filled the memory.
            self._halve_batch(size)
        return torch.cat(features) if len(features) != 1 else features[0]

    def _encode(self, pixels: Tensor, size: int) -> Tensor:
        num_missing = size - len(pixels)
        if not self._pad or num_missing == 0:
            return self.encoder(pixels)
        padding = pixels.new_zeros(num_missing, *pixels.shape[1:])
        return self.encoder(torch.cat([pixels, padding]))[: len(pixels)]

    def _halve_batch(self, size: int) -> None:
        if size == 1:
            raise ConfigError(out_of_memory_message(self.encoder.name, self.encoder.device))
        # Another thread may have halved it further meanwhile.
        self.batch_size = min(self.batch_size, size // 2)
        if self.encoder.device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory_message(name: str, device: torch.device) -> str:
    """Error for a device whose memory does not hold the encoder and a single tile."""
    return (
        f"encoder {name}: the memory of {device} does not hold the model and one tile; "
        "free some memory, or choose a smaller encoder"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    return "can't allocate memory" in str(error)


def default_batch_size(encoder: Encoder, tile_px: int) -> int:
    """Number of tiles in a batch for a device: 16 on a CPU, up to 256 on a GPU.

    On a GPU it is the largest power of two for which two jobs have room for two batches
    each. It depends on model and device alone, so that a slide has the same features on
    a busy GPU, and beside other encoders.

    Args:
        encoder: Encoder on its device.
        tile_px: Side of a tile, pixels.
    """
    if encoder.device.type != "cuda":
        return CPU_BATCH_SIZE
    torch.cuda.reset_peak_memory_stats(encoder.device)
    before = torch.cuda.memory_allocated(encoder.device)
    encoder(torch.zeros(PROBE_TILES, tile_px, tile_px, 3, dtype=torch.uint8))
    per_tile = (torch.cuda.max_memory_allocated(encoder.device) - before) / PROBE_TILES
    weights = sum(tensor.nbytes for tensor in encoder.model.state_dict().values())
    # Total memory, not free memory: what other jobs hold right now must not matter.
    total = torch.cuda.get_device_properties(encoder.device).total_memory
    per_batch = (GPU_MEMORY_SHARE * total / JOBS_PER_GPU - weights) / GPU_THREADS
    return largest_power_of_two(per_batch / max(per_tile, 1.0))


def largest_power_of_two(limit: float) -> int:
    """Largest power of two that is at most `limit`, between 1 and 256."""
    return 1 << (max(1, min(int(limit), MAX_BATCH_SIZE)).bit_length() - 1)


class ExtractionSettings(NamedTuple):
    """How the tiles of a slide go through encoders; features do not depend on threads.

    Attributes:
        batch_size: Tiles read at a time.
        reader_threads: Threads that read tiles.
        encoder_threads: Threads that encode batches.
        max_unreadable: Number of unreadable tiles after which reading stops; None:
            all tiles are tried.
    """

    batch_size: int
    reader_threads: int
    encoder_threads: int
    max_unreadable: int | None = None


def extraction_settings(
    encoders: Sequence[BatchedEncoder], num_tiles: int, *, max_corrupt: float, threads: int
) -> ExtractionSettings:
    """Settings for a slide.

    Args:
        encoders: Encoders of the slide, all on one device.
        num_tiles: Tiles of the slide.
        max_corrupt: Largest share of unreadable tiles, 0 to 1.
        threads: Threads for reading, and as many for encoders on a CPU.
    """
    on_cpu = encoders[0].encoder.device.type == "cpu"
    return ExtractionSettings(
        batch_size=max(encoder.batch_size for encoder in encoders),
        reader_threads=threads,
        encoder_threads=threads if on_cpu else GPU_THREADS,
        max_unreadable=max(int(max_corrupt * num_tiles), MIN_UNREADABLE),
    )


def state_after_reading(
    valid: Bool[np.ndarray, " tiles"], num_tried: int, max_corrupt: float
) -> tuple[str, str]:
    """State of a slide after its tiles were read, and the reason.

    Args:
        valid: Whether each tile could be read.
        num_tried: Number of tiles, from the first, that were tried.
        max_corrupt: Largest share of unreadable tiles of a slide that is `ok`, 0 to 1.
    """
    num_tiles = len(valid)
    num_bad = int((~valid[:num_tried]).sum())
    # A slide without a single readable tile is not ok, whatever the setting.
    is_corrupt = num_bad > max_corrupt * num_tiles or num_bad == num_tiles
    reason = ""
    if num_bad:
        reason = f"{num_bad} of {num_tried} tiles cannot be decoded"
    if num_tried < num_tiles:
        reason += f", {num_tiles - num_tried} more were not tried"
    return "corrupt_regions" if is_corrupt else "ok", reason
