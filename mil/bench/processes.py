"""Measurements of `mil bench features` that need a process of their own.

The start of `mil features`, and the plain way undisturbed by what this tool changes.
"""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from mil.bench.read import central_corners
from mil.config import EncoderConfig
from mil.device import choose_device
from mil.encoders.build import build_encoder
from mil.encoders.precision import cast_weights
from mil.encoders.resample import fast_resample
from mil.encoders.runner import Encoder, default_batch_size
from mil.io.slides import SlideReader, TileRequest, stream
from mil.tile.grid import footprint_px


def central_tiles(path: Path, entry: EncoderConfig, tiles: int) -> TileRequest:
    """Tiles around the middle of a slide, in the size and scale of an encoder.

    Args:
        path: the slide.
        entry: the encoder's entry.
        tiles: largest number of tiles.
    """
    # Whole rows are chosen, of which the last may be too many.
    with SlideReader(path) as reader:
        side = footprint_px(entry.tile_px, entry.mpp, reader.resolution().mpp)
        coords = central_corners(reader, side, tiles)[:tiles]
        return TileRequest(path, coords, side, entry.tile_px)


def start_up_s(slide: Path, name: str, entry: EncoderConfig, device: str) -> float:
    """Seconds from the start of a process to its first batch; the faster of two.

    Args:
        slide: slide to read the batch from.
        name: name of the encoder.
        entry: the encoder's entry.
        device: `cpu`, `cuda`, or `auto`.
    """
    seconds = []
    # The first of the two reads libraries and weights from the disk, the second from memory.
    for _ in range(2):
        began = perf_counter()
        _run_process("first_batch", str(slide), name, entry.model_dump_json(), device)
        seconds.append(perf_counter() - began)
    return min(seconds)


def first_batch(slide: str, name: str, entry_json: str, device: str) -> None:
    """Do as `mil features` up to its first batch: the program of a process.

    Args:
        slide: path of the slide.
        name: name of the encoder.
        entry_json: the encoder's entry, as JSON.
        device: `cpu`, `cuda`, or `auto`.
    """
    entry = EncoderConfig.model_validate_json(entry_json)
    encoder = build_encoder(
        name, entry, tile_px=entry.tile_px, device=choose_device(device), precision="auto"
    )
    cast_weights(encoder.model, encoder.dtype)
    batch_size = default_batch_size(encoder, entry.tile_px)
    request = central_tiles(Path(slide), entry, batch_size)
    batch = next(stream([request], batch_size=batch_size, workers=1, resampler=fast_resample))
    encoder(torch.from_numpy(batch.pixels))


def plain_rate(
    name: str, entry: EncoderConfig, device: str, *, threads: int, batch_size: int, seconds: float
) -> float:
    """Tiles a second of the plain way in a process of its own.

    Args:
        name: name of the encoder.
        entry: the encoder's entry.
        device: `cpu`, `cuda`, or `auto`.
        threads: number of threads.
        batch_size: number of tiles of a batch.
        seconds: least time to measure.
    """
    # Arguments of a process are texts.
    settings = json.dumps({"threads": threads, "batch_size": batch_size, "seconds": seconds})
    return float(_run_process("print_plain_rate", name, entry.model_dump_json(), device, settings))


def print_plain_rate(name: str, entry_json: str, device: str, settings_json: str) -> None:
    """Print tiles a second of the plain way: the program of a process.

    Args:
        name: name of the encoder.
        entry_json: the encoder's entry, as JSON.
        device: `cpu`, `cuda`, or `auto`.
        settings_json: other arguments of `plain_rate`, as JSON.
    """
    entry = EncoderConfig.model_validate_json(entry_json)
    settings = json.loads(settings_json)
    torch.set_num_threads(settings["threads"])
    encoder = build_encoder(
        name, entry, tile_px=entry.tile_px, device=choose_device(device), precision="fp32"
    )
    shape = (settings["batch_size"], entry.tile_px, entry.tile_px, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    # The first call allocates memory and is not counted.
    encode_plainly(encoder, pixels)
    began = perf_counter()
    tiles = 0
    while tiles == 0 or perf_counter() - began < settings["seconds"]:
        encode_plainly(encoder, pixels)
        tiles += len(pixels)
    print(tiles / (perf_counter() - began), flush=True)


@torch.inference_mode()
def encode_plainly(encoder: Encoder, pixels: Tensor) -> Tensor:
    """Features as the usual transforms compute them: float32, channels first.

    Args:
        encoder: the encoder.
        pixels: uint8, [tiles, height, width, 3].
    """
    # timm builds models so; this tool reorders them to channels last.
    model = encoder.model.to(memory_format=torch.contiguous_format)
    batch = pixels.to(encoder.device).permute(0, 3, 1, 2).contiguous().float() / 255
    mean = torch.tensor(encoder.mean, device=encoder.device)[:, None, None]
    std = torch.tensor(encoder.std, device=encoder.device)[:, None, None]
    return model((batch - mean) / std).float().cpu()


def _run_process(function: str, *arguments: str) -> str:
    """Output of a function of this module, called in a process of its own."""
    program = f"import sys; from mil.bench.processes import {function}; {function}(*sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
