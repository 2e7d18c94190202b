"""`mil bench features`: tiles a second of reading, of an encoder, and of both together."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from torch import Tensor

from mil.bench.features_measure import FeatureBenchmark, read_tiles
from mil.bench.processes import central_tiles, plain_rate, start_up_s
from mil.bench.results_table import BenchmarkTable, Row
from mil.bench.slides import synthetic_slide
from mil.config import EncoderConfig, encoder_name, load_encoder
from mil.device import choose_device
from mil.encoders.build import build_encoder
from mil.encoders.precision import cast_weights
from mil.encoders.runner import (
    GPU_THREADS,
    BatchedEncoder,
    default_batch_size,
)
from mil.io.slides import TileRequest
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
    build = partial(build_encoder, name, entry, tile_px=entry.tile_px, device=device)
    encoder = build(precision=settings.precision)
    cast_weights(encoder.model, encoder.dtype)
    batched = BatchedEncoder(encoder, entry.dim, default_batch_size(encoder, entry.tile_px))
    benchmark = _benchmark_of(path, entry, batched, settings)
    count = len(benchmark.pixels)
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
        threads=settings.threads,
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


def _benchmark_of(
    path: Path, entry: EncoderConfig, encoder: BatchedEncoder, settings: _Settings
) -> FeatureBenchmark:
    """The tiles of a slide, as many as take the encoder about `ROUND_S`."""
    on_cpu = encoder.encoder.device.type == "cpu"
    encoder_threads = settings.threads if on_cpu else GPU_THREADS
    # Tissue lies in the middle; white tiles decode faster.
    request = central_tiles(path, entry, settings.tiles)
    pixels = read_tiles(request, encoder.batch_size, settings.threads, encoder_threads)
    pixels = pixels[: _tiles_of_a_round(encoder, pixels)]
    corners = request.coords[: len(pixels)]
    request = TileRequest(path, corners, request.side_level0_px, request.tile_px)
    return FeatureBenchmark(request, pixels, encoder, settings.threads, encoder_threads)


def _tiles_of_a_round(encoder: BatchedEncoder, pixels: Tensor) -> int:
    """Number of tiles that take the encoder about `ROUND_S`: whole batches, at least two."""
    batch = pixels[: encoder.batch_size]
    # The first call allocates memory and chooses kernels.
    encoder(batch)
    began = perf_counter()
    encoder(batch)
    batches = max(2, round(ROUND_S / (perf_counter() - began)))
    return min(len(pixels), batches * encoder.batch_size)
