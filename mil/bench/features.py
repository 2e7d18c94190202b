"""`mil bench features`: tiles a second of reading, of an encoder, and of both together; and who limits."""

import os
import resource
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from mil.bench.processes import plain_rate, plainly, some_tiles, start_up_s
from mil.bench.results_table import Outcome, Row
from mil.bench.slides import made
from mil.config import EncoderConfig, load_encoder
from mil.device import choose_device, keep_freed_memory
from mil.encoders.build import build_encoder
from mil.encoders.precision import cast_weights
from mil.encoders.runner import (
    GPU_THREADS,
    BatchedEncoder,
    Encoder,
    ExtractionSettings,
    default_batch_size,
)
from mil.features.extract import extract
from mil.features.resample import fast_resample
from mil.io.slides import TileRequest, stream

NOTE = (
    "plain: the model as timm makes it, float32, channels first, as many threads, in a process "
    "of its own; kept: the "
    "same in this process, where freed memory is kept as in `mil features`; speed-up: encoder "
    "over each; cosine: of "
    "each tile's features to plain ones; ratio: together over the smaller of reading and "
    "encoder; busy: share of the "
    "time in which the encoder computed; start-up: of a process, to its first batch, imports and "
    "weights included, the "
    "faster of two. Reading and encoder have cores of their own where there are enough. Medians "
    "over rounds in which "
    "each has its turn."
)
ROUND_S = 8.0  # aimed at for each measurement


def run(
    slides: Sequence[Path],
    *,
    encoders: Sequence[str],
    threads: int,
    tiles: int,
    repeats: int,
    device: str,
    precision: str,
    random_weights: bool,
) -> Outcome:
    """Time feature extraction.

    Args:
        slides: which; none: a synthetic one of 60 000 x 60 000 px, JPEG.
        encoders: entries of configs/encoders.yaml.
        threads: for reading, and as many for the encoder on a CPU.
        tiles: how many tiles of each slide, at most; fewer for slow encoders.
        repeats: of each measurement; the median counts.
        device: `cpu`, `cuda`, or `auto`.
        precision: see `choose_precision`.
        random_weights: do not ask for weights; speed does not depend on them, cosines
            do.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        paths = list(slides) or [made(Path(folder), "jpeg")]
        entries = {name: load_encoder(name) for name in encoders}
        if random_weights:
            entries = {
                name: entry.model_copy(update={"weights": "random"})
                for name, entry in entries.items()
            }
        rows = [
            _row(
                path,
                name,
                entry,
                threads=threads,
                tiles=tiles,
                repeats=repeats,
                device=device,
                precision=precision,
            )
            for path in paths
            for name, entry in entries.items()
        ]
    return Outcome(f"mil bench features, threads: {threads}", rows, NOTE)


def _row(
    path: Path,
    name: str,
    entry: EncoderConfig,
    *,
    threads: int,
    tiles: int,
    repeats: int,
    device: str,
    precision: str,
) -> Row:
    on = choose_device(device)
    build = partial(build_encoder, name, entry, tile_px=entry.tile_px, device=on)
    encoder = build(precision=precision)
    cast_weights(encoder.model, encoder.dtype)
    feeder = BatchedEncoder(encoder, entry.dim, default_batch_size(encoder, entry.tile_px))
    lanes = threads if on.type == "cpu" else GPU_THREADS
    request = some_tiles(path, entry, tiles)
    pixels = _read(request, feeder.batch_size, threads, lanes)
    pixels = pixels[: _enough(feeder, pixels)]
    request = TileRequest(
        path, request.coords[: len(pixels)], request.side_level0_px, request.tile_px
    )
    bench = _Bench(request, pixels, feeder, threads, lanes)
    taken = bench.in_turns(repeats, build(precision="fp32"))
    count = len(pixels)
    reading, alone, together, kept = (
        count / taken[what] for what in ("reading", "encoder", "together", "plain")
    )
    plain = plain_rate(
        name, entry, device, threads=threads, step=feeder.batch_size, seconds=ROUND_S
    )
    cosine = torch.nn.functional.cosine_similarity(bench.features, bench.truth)
    return {
        "slide": path.name,
        "encoder": name,
        "device": f"{on.type}, {encoder.identity['precision']}",
        "tiles": count,
        "step": feeder.batch_size,
        "plain_tiles/s": plain,
        "plain_kept_tiles/s": kept,
        "encoder_tiles/s": alone,
        "speed-up": alone / plain,
        "speed-up_kept": alone / kept,
        "cosine_least": f"{cosine.min():.5f}",
        "cosine_median": f"{cosine.median():.5f}",
        "reading_tiles/s": reading,
        "together_tiles/s": together,
        "ratio": together / min(reading, alone),
        "busy": taken["busy"],
        "limits": "reading" if reading < alone else "encoder",
        "start-up_s": start_up_s(path, name, entry, device),
        "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _read(request: TileRequest, step: int, threads: int, first_core: int) -> Tensor:
    resampler = _pinned(fast_resample, range(first_core, first_core + threads))
    batches = stream([request], batch_size=step, workers=threads, resampler=resampler)
    return torch.cat([torch.from_numpy(batch.pixels) for batch in batches])


def _enough(feeder: BatchedEncoder, pixels: Tensor) -> int:
    """How many tiles keep the encoder busy for about eight seconds: whole steps, at least two."""
    feeder(pixels[: feeder.batch_size])
    began = perf_counter()
    feeder(pixels[: feeder.batch_size])
    steps = max(2, round(ROUND_S / (perf_counter() - began)))
    return min(len(pixels), steps * feeder.batch_size)


class _Bench:
    """Reading, encoder, both, and the plain way, each in its turn over the same tiles."""

    def __init__(
        self, request: TileRequest, pixels: Tensor, feeder: BatchedEncoder, threads: int, lanes: int
    ) -> None:
        self.request = request
        self.pixels = pixels
        self.feeder = feeder
        self.threads = threads
        self.lanes = lanes
        self.dim = feeder.dim
        self._busy_s = 0.0
        self._counting = threading.Lock()
        self._encode = _pinned(feeder, range(lanes))
        self.features = self.truth = torch.zeros(0)

    def in_turns(self, repeats: int, plain: Encoder) -> dict[str, float]:
        """Seconds of each, the median over rounds, and the share of time the encoder was busy in `together`."""
        taken: dict[str, list[float]] = {}
        for _ in range(repeats):
            for what in (self.reading, self.encoder, self.together, partial(self.plain, plain)):
                name = getattr(what, "__name__", "plain")
                self._busy_s = 0.0
                began = perf_counter()
                what()
                seconds = perf_counter() - began
                taken.setdefault(name, []).append(seconds)
                if name == "together":
                    taken.setdefault("busy", []).append(
                        min(1.0, self._busy_s / seconds / self.lanes)
                    )
        return {name: median(values) for name, values in taken.items()}

    def reading(self) -> None:
        _read(self.request, self.feeder.batch_size, self.threads, self.lanes)

    def encoder(self) -> None:
        with ThreadPoolExecutor(self.lanes) as pool:
            self.features = torch.cat(
                list(pool.map(self._encode, self.pixels.split(self.feeder.batch_size)))
            )

    def together(self) -> None:
        extract(
            self.request,
            [self],
            ExtractionSettings(self.feeder.batch_size, self.threads, self.lanes),
            resampler=_pinned(fast_resample, range(self.lanes, self.lanes + self.threads)),
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """An encoder that counts its seconds."""
        began = perf_counter()
        found: Tensor = self._encode(pixels)
        with self._counting:
            self._busy_s += perf_counter() - began
        return found

    def plain(self, encoder: Encoder) -> None:
        """What one writes first: batch after batch, all threads on one."""
        torch.set_num_threads(self.threads)
        with ThreadPoolExecutor(
            1
        ) as pool:  # a thread whose cores are those of the encoder, like its rival's
            encode = _pinned(
                partial(plainly, encoder),
                range(self.lanes) if encoder.device.type == "cpu" else None,
            )
            self.truth = torch.cat(
                list(pool.map(encode, self.pixels.split(self.feeder.batch_size)))
            )
        torch.set_num_threads(1)


def _pinned(call: Callable[..., Any], cores: range | None) -> Callable[..., Any]:
    """The same, on some of this process's cores only, as far as there are so many."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores is None or cores.stop > len(allowed):
        return call
    mine = [allowed[core] for core in cores]
    local = threading.local()

    def pinned(*arguments: Any) -> Any:
        if not hasattr(local, "done"):
            os.sched_setaffinity(0, mine)  # 0: this thread
            local.done = True
        return call(*arguments)

    return pinned
