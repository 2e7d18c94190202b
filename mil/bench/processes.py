"""What is measured in a process of its own: how long `mil features` takes to start, and the plain way undisturbed."""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from mil.bench.read import corners
from mil.config import EncoderConfig
from mil.device import choose_device
from mil.encoders.build import build_encoder
from mil.encoders.precision import cast_weights
from mil.encoders.runner import Encoder, default_batch_size
from mil.features.resample import fast_resample
from mil.io.slides import SlideReader, TileRequest, stream
from mil.tile.grid import footprint_px


def some_tiles(path: Path, entry: EncoderConfig, tiles: int) -> TileRequest:
    """About so many tiles around the middle of a slide, as an encoder wants them."""
    with SlideReader(path) as reader:
        side = footprint_px(entry.tile_px, entry.mpp, reader.resolution().mpp)
        return TileRequest(path, corners(reader, side, tiles)[:tiles], side, entry.tile_px)


def start_up_s(slide: Path, name: str, entry: EncoderConfig, device: str) -> float:
    """Seconds from the start of a process to its first batch of features; the faster of two."""
    taken = []
    for _ in range(2):
        began = perf_counter()
        _call("first_batch", str(slide), name, entry.model_dump_json(), device)
        taken.append(perf_counter() - began)
    return min(taken)


def first_batch(slide: str, name: str, settings: str, device: str) -> None:
    """What `mil features` does up to its first batch."""
    entry = EncoderConfig.model_validate_json(settings)
    encoder = build_encoder(
        name, entry, tile_px=entry.tile_px, device=choose_device(device), precision="auto"
    )
    cast_weights(encoder.model, encoder.dtype)
    step = default_batch_size(encoder, entry.tile_px)
    request = some_tiles(Path(slide), entry, step)
    batch = next(stream([request], batch_size=step, workers=1, resampler=fast_resample))
    encoder(torch.from_numpy(batch.pixels))


def plain_rate(
    name: str, entry: EncoderConfig, device: str, *, threads: int, step: int, seconds: float
) -> float:
    """Tiles a second of the plain way in a process that is left as it is."""
    how = json.dumps({"threads": threads, "step": step, "seconds": seconds})
    return float(_call("plain_alone", name, entry.model_dump_json(), device, how))


def plain_alone(name: str, settings: str, device: str, how: str) -> None:
    """Print tiles a second."""
    entry = EncoderConfig.model_validate_json(settings)
    given = json.loads(how)
    torch.set_num_threads(given["threads"])
    encoder = build_encoder(
        name, entry, tile_px=entry.tile_px, device=choose_device(device), precision="fp32"
    )
    pixels = torch.randint(
        0, 256, (given["step"], entry.tile_px, entry.tile_px, 3), dtype=torch.uint8
    )
    plainly(encoder, pixels)
    began = perf_counter()
    done = 0
    while done == 0 or perf_counter() - began < given["seconds"]:
        plainly(encoder, pixels)
        done += len(pixels)
    print(done / (perf_counter() - began), flush=True)


@torch.inference_mode()
def plainly(encoder: Encoder, pixels: Tensor) -> Tensor:
    """Features as the usual transforms would have them: float32, channels first."""
    model = encoder.model.to(memory_format=torch.contiguous_format)
    batch = pixels.to(encoder.device).permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = (
        torch.tensor(v, device=encoder.device)[:, None, None] for v in (encoder.mean, encoder.std)
    )
    return model((batch - mean) / std).float().cpu()


def _call(function: str, *arguments: str) -> str:
    program = f"import sys; from mil.bench.processes import {function}; {function}(*sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
