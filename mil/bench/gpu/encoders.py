"""Vision transformers with random weights: tiles a second alone, and fed from host memory."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mil.bench.gpu.rows import Bench, GpuRow
from mil.bench.kernels_step import milliseconds

MODELS = ("vit_small_patch16_224", "vit_large_patch16_224", "vit_huge_patch14_224")
TILE_PX = 224
BATCH = 256
BATCHES = 4


def encoders(bench: Bench) -> Iterator[GpuRow]:
    """Each model alone, then with tiles copied from pinned memory while it works."""
    for name in MODELS[: bench.size(len(MODELS), 1)]:
        if bench.is_late:
            return
        model = _model(bench, name)
        batch = bench.size(BATCH, 2)
        alone = _rate(bench, partial(_encode, model, _pixels(bench, batch).to(bench.device)), batch)
        yield GpuRow("encoders", f"{name}, alone", alone, "tiles/s")
        fed = _rate(bench, partial(_fed, bench, model, _pixels(bench, batch)), batch * BATCHES)
        note = f"{fed / alone:.0%} of the time busy"
        yield GpuRow("encoders", f"{name}, fed from host memory", fed, "tiles/s", note=note)
        del model


def _model(bench: Bench, name: str) -> nn.Module:
    import timm

    small: dict[str, Any] = {"depth": 1, "embed_dim": 32, "num_heads": 2} if bench.dry else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **small)
    return model.to(bench.device).eval().requires_grad_(False)


def _pixels(bench: Bench, batch: int) -> Tensor:
    """Tiles in host memory, pinned where there is a GPU."""
    pixels = torch.randint(256, (batch, TILE_PX, TILE_PX, 3), dtype=torch.uint8)
    return pixels.pin_memory() if bench.device.type == "cuda" else pixels


def _rate(bench: Bench, call: Callable[[], object], tiles: int) -> float:
    return 1e3 * tiles / milliseconds(call, bench.device, bench.seconds)


@torch.inference_mode()
def _encode(model: nn.Module, pixels: Tensor) -> Tensor:
    batch = pixels.permute(0, 3, 1, 2).float().div_(255)
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=batch.device.type == "cuda"):
        features: Tensor = model(batch)
    return features


def _fed(bench: Bench, model: nn.Module, pixels: Tensor) -> None:
    """Several batches, each copied on a stream of its own while the one before is encoded."""
    if bench.device.type != "cuda":
        for _ in range(BATCHES):
            _encode(model, pixels)
        return
    copies = torch.cuda.Stream()
    work = torch.cuda.current_stream()
    arrived = _copied(pixels, bench, copies)
    for number in range(BATCHES):
        work.wait_stream(copies)
        batch = arrived
        batch.record_stream(work)
        if number + 1 < BATCHES:
            arrived = _copied(pixels, bench, copies)
        _encode(model, batch)


def _copied(pixels: Tensor, bench: Bench, stream: torch.cuda.Stream) -> Tensor:
    with torch.cuda.stream(stream):
        return pixels.to(bench.device, non_blocking=True)
