"""Memory of an encoder: how many tiles a step."""

import torch

from mil.encoders.runner import Encoder

# a small batch stays in the caches: 16 tiles went 1.7 times as fast as 64, in half the
# memory
CPU_STEP = 16
LARGEST_STEP = 256
GPU_LANES = 2  # steps in a GPU's queue: while one is computed, the next is prepared
JOBS = 2  # that can share a GPU
SHARE = 0.9  # of a GPU's memory for all of them
PROBE = 4


def step_for(encoder: Encoder, tile_px: int) -> int:
    """Tiles a step: 16 on a CPU; on a GPU the largest power of two up to 256 of which two jobs have room for two each.

    It depends on the model and the device alone, so that the same slide gives the same
    features on a busy GPU, and beside other encoders.
    """
    if encoder.device.type != "cuda":
        return CPU_STEP
    torch.cuda.reset_peak_memory_stats(encoder.device)
    before = torch.cuda.memory_allocated(encoder.device)
    encoder(torch.zeros(PROBE, tile_px, tile_px, 3, dtype=torch.uint8))
    per_tile = (torch.cuda.max_memory_allocated(encoder.device) - before) / PROBE
    weights = sum(tensor.nbytes for tensor in encoder.model.state_dict().values())
    total = torch.cuda.get_device_properties(encoder.device).total_memory
    room = (SHARE * total / JOBS - weights) / GPU_LANES
    return largest_power(room / max(per_tile, 1.0))


def largest_power(tiles: float) -> int:
    """The largest power of two that is at most `tiles`, from 1 to 256."""
    return 1 << (max(1, min(int(tiles), LARGEST_STEP)).bit_length() - 1)
