"""`mil bench features`: tiles a second of reading, of an encoder, and of both together."""

import os
import resource
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mil.bench.processes import central_tiles, encode_plainly, plain_rate, start_up_s
from mil.bench.results_table import BenchmarkTable, Row
from mil.bench.slides import synthetic_slide
from mil.config import EncoderConfig, encoder_name, load_encoder
from mil.device import choose_device
from mil.encoders.build import build_encoder
from mil.encoders.precision import cast_weights
from mil.encoders.resample import fast_resample
from mil.encoders.runner import (
    GPU_THREADS,
    BatchedEncoder,
    Encoder,
    ExtractionSettings,
    default_batch_size,
)
from mil.features.extract import extract
from mil.io.slides import TileRequest, stream
from mil.memory import keep_freed_memory

NOTE = (
    "plain: the model as timm builds it, float32, channels first, as many threads, in a process "
    "of its own; kept: the same in this process, where freed memory is kept as in `mil features`; "
    "speed-up: encoder over each; cosine: of each tile's features to plain ones; ratio: together "
    "over the smaller of reading and encoder; busy: share of the time in which the encoder "
    "computed; start-up: of a process, to its first batch, imports and weights included, the "
    "faster of two. Reading and encoder have cores of their own where there are enough. Medians "
    "over rounds in which each has its turn."
)
# Aimed at for each measurement, seconds.
ROUND_S = 8.0


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Settings of the benchmark; see `run`."""

    threads: int
    tiles: int
    repeats: int
    device: str
    precision: str


class _MedianTimes(NamedTuple):
    """Seconds over the same tiles, and the share of the time in which the encoder computed."""

    reading: float
    encoder: float
    together: float
    plain: float
    busy: float


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
) -> BenchmarkTable:
    """Time feature extraction.

    Args:
        slides: slides to read; none: a synthetic one of 60 000 x 60 000 px, JPEG.
        encoders: names of entries of configs/encoders.yaml.
        threads: number of threads that read, and on a CPU of as many that encode.
        tiles: largest number of tiles of each slide; slow encoders get fewer.
        repeats: number of rounds; the median is reported.
        device: `cpu`, `cuda`, or `auto`.
        precision: precision of the encoder, see `choose_precision`.
        random_weights: use random weights; speed does not depend on them, cosines do.
    """
    # Each of several threads computes a batch; within a batch there is one thread.
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = _Settings(
        threads=threads, tiles=tiles, repeats=repeats, device=device, precision=precision
    )
    entries = {encoder_name(name): load_encoder(name) for name in encoders}
    if random_weights:
        random = {"weights": "random"}
        entries = {name: entry.model_copy(update=random) for name, entry in entries.items()}
    with TemporaryDirectory() as folder:
        paths = list(slides) or [synthetic_slide(Path(folder), "jpeg")]
        rows = [
            _row(path, name, entry, settings) for path in paths for name, entry in entries.items()
        ]
    return BenchmarkTable(f"mil bench features, threads: {threads}", rows, NOTE)


def _row(path: Path, name: str, entry: EncoderConfig, settings: _Settings) -> Row:
    """Measure one encoder on one slide."""
    device = choose_device(settings.device)
    threads = settings.threads
    build = partial(build_encoder, name, entry, tile_px=entry.tile_px, device=device)
    encoder = build(precision=settings.precision)
    cast_weights(encoder.model, encoder.dtype)
    batched = BatchedEncoder(encoder, entry.dim, default_batch_size(encoder, entry.tile_px))
    encoder_threads = threads if device.type == "cpu" else GPU_THREADS
    # Tissue lies in the middle; white tiles decode faster.
    request = central_tiles(path, entry, settings.tiles)
    pixels = _read(request, batched.batch_size, threads, encoder_threads)
    pixels = pixels[: _tiles_of_a_round(batched, pixels)]
    count = len(pixels)
    request = TileRequest(path, request.coords[:count], request.side_level0_px, request.tile_px)
    benchmark = _FeatureBenchmark(request, pixels, batched, threads, encoder_threads)
    times = benchmark.run_rounds(settings.repeats, build(precision="fp32"))
    # All four over the same tiles, so that the rates compare.
    reading = count / times.reading
    encoding = count / times.encoder
    together = count / times.together
    plain_here = count / times.plain
    # A process of its own: freed memory is not kept there.
    plain = plain_rate(
        name,
        entry,
        settings.device,
        threads=threads,
        batch_size=batched.batch_size,
        seconds=ROUND_S,
    )
    cosine = torch.nn.functional.cosine_similarity(benchmark.features, benchmark.plain_features)
    return {
        "slide": path.name,
        "encoder": name,
        "device": f"{device.type}, {encoder.identity['precision']}",
        "tiles": count,
        "step": batched.batch_size,
        "plain_tiles/s": plain,
        "plain_kept_tiles/s": plain_here,
        "encoder_tiles/s": encoding,
        "speed-up": encoding / plain,
        "speed-up_kept": encoding / plain_here,
        "cosine_least": f"{cosine.min():.5f}",
        "cosine_median": f"{cosine.median():.5f}",
        "reading_tiles/s": reading,
        "together_tiles/s": together,
        "ratio": together / min(reading, encoding),
        "busy": times.busy,
        # The slower of the two sets the pace of a run.
        "limits": "reading" if reading < encoding else "encoder",
        "start-up_s": start_up_s(path, name, entry, settings.device),
        "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _read(request: TileRequest, batch_size: int, threads: int, first_core: int) -> Tensor:
    """Pixels of all tiles, read on cores that the encoder does not use."""
    resampler = _pinned(fast_resample, range(first_core, first_core + threads))
    batches = stream([request], batch_size=batch_size, workers=threads, resampler=resampler)
    return torch.cat([torch.from_numpy(batch.pixels) for batch in batches])


def _tiles_of_a_round(encoder: BatchedEncoder, pixels: Tensor) -> int:
    """Number of tiles that take the encoder about `ROUND_S`: whole batches, at least two."""
    batch = pixels[: encoder.batch_size]
    # The first call allocates memory and chooses kernels.
    encoder(batch)
    began = perf_counter()
    encoder(batch)
    batches = max(2, round(ROUND_S / (perf_counter() - began)))
    return min(len(pixels), batches * encoder.batch_size)


class _FeatureBenchmark:
    """Reading, encoder, both, and the plain way, in turns over the same tiles."""

    def __init__(
        self,
        request: TileRequest,
        pixels: Tensor,
        encoder: BatchedEncoder,
        threads: int,
        encoder_threads: int,
    ) -> None:
        """Prepare the benchmark.

        Args:
            request: tiles to read.
            pixels: pixels of the same tiles, for the encoder alone.
            encoder: the encoder.
            threads: number of threads that read.
            encoder_threads: number of threads that encode.
        """
        self.request = request
        self.pixels = pixels
        self.batch_size = encoder.batch_size
        # `extract` asks its encoders for their dimension.
        self.dim = encoder.dim
        self.threads = threads
        self.encoder_threads = encoder_threads
        self.features = torch.zeros(0)
        self.plain_features = torch.zeros(0)
        self._busy_s = 0.0
        self._busy_lock = threading.Lock()
        self._encode = _pinned(encoder, range(encoder_threads))

    def run_rounds(self, repeats: int, plain_encoder: Encoder) -> _MedianTimes:
        """Median times over rounds in which each has its turn.

        Turns, so that a machine that slows down slows all of them.
        """
        steps: dict[str, Callable[[], None]] = {
            "reading": self.read,
            "encoder": self.encode,
            "together": self.read_and_encode,
            "plain": partial(self.encode_plainly, plain_encoder),
        }
        seconds: dict[str, list[float]] = defaultdict(list)
        busy = []
        for _ in range(repeats):
            for name, step in steps.items():
                self._busy_s = 0.0
                began = perf_counter()
                step()
                elapsed = perf_counter() - began
                seconds[name].append(elapsed)
                if name == "together":
                    busy.append(min(1.0, self._busy_s / elapsed / self.encoder_threads))
        medians = {name: median(values) for name, values in seconds.items()}
        return _MedianTimes(**medians, busy=median(busy))

    def read(self) -> None:
        """Read all tiles."""
        _read(self.request, self.batch_size, self.threads, self.encoder_threads)

    def encode(self) -> None:
        """Encode all tiles, whose pixels lie in memory."""
        batches = self.pixels.split(self.batch_size)
        with ThreadPoolExecutor(self.encoder_threads) as pool:
            self.features = torch.cat(list(pool.map(self._encode, batches)))

    def read_and_encode(self) -> None:
        """Read and encode all tiles at the same time, as `mil features` does."""
        reading_cores = range(self.encoder_threads, self.encoder_threads + self.threads)
        extract(
            self.request,
            [self],
            ExtractionSettings(self.batch_size, self.threads, self.encoder_threads),
            resampler=_pinned(fast_resample, reading_cores),
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode a batch as `extract` asks for it, and count the seconds."""
        began = perf_counter()
        features: Tensor = self._encode(pixels)
        # Several threads encode at the same time.
        with self._busy_lock:
            self._busy_s += perf_counter() - began
        return features

    def encode_plainly(self, encoder: Encoder) -> None:
        """Encode batch after batch, all threads on one batch: what one writes first."""
        torch.set_num_threads(self.threads)
        cores = range(self.encoder_threads) if encoder.device.type == "cpu" else None
        # In a thread, so that its cores can be those of the encoder and no others.
        with ThreadPoolExecutor(1) as pool:
            encode = _pinned(partial(encode_plainly, encoder), cores)
            batches = self.pixels.split(self.batch_size)
            self.plain_features = torch.cat(list(pool.map(encode, batches)))
        torch.set_num_threads(1)


def _pinned(call: Callable[..., Any], cores: range | None) -> Callable[..., Any]:
    """The same function, on some of this process's cores only, if it has as many.

    Args:
        call: the function.
        cores: numbers among the cores that this process may use; None: all.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores is None or cores.stop > len(allowed):
        return call
    chosen = [allowed[core] for core in cores]
    thread = threading.local()

    def pinned(*arguments: Any) -> Any:
        # Once for each thread of the pool.
        if not hasattr(thread, "pinned"):
            # 0 stands for this thread.
            os.sched_setaffinity(0, chosen)
            thread.pinned = True
        return call(*arguments)

    return pinned
