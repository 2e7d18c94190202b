"""Measurement of `mil bench features`: reading, encoder, both, and the plain way, in turns."""

import os
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mil.bench.processes import encode_plainly
from mil.encoders.resample import fast_resample
from mil.encoders.runner import BatchedEncoder, Encoder, ExtractionSettings
from mil.features.extract import extract
from mil.io.slides import TileRequest, stream


class MedianTimes(NamedTuple):
    """Seconds over the same tiles, and the share of the time in which the encoder computed."""

    reading: float
    encoder: float
    together: float
    plain: float
    busy: float


class FeatureBenchmark:
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

    def run_rounds(self, repeats: int, plain_encoder: Encoder) -> MedianTimes:
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
        return MedianTimes(**medians, busy=median(busy))

    def read(self) -> None:
        """Read all tiles."""
        read_tiles(self.request, self.batch_size, self.threads, self.encoder_threads)

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


def read_tiles(request: TileRequest, batch_size: int, threads: int, first_core: int) -> Tensor:
    """Pixels of all tiles, read on cores that the encoder does not use.

    Args:
        request: tiles to read.
        batch_size: number of tiles of a batch.
        threads: number of threads that read.
        first_core: number of cores that the encoder uses, which come first.
    """
    resampler = _pinned(fast_resample, range(first_core, first_core + threads))
    batches = stream([request], batch_size=batch_size, workers=threads, resampler=resampler)
    return torch.cat([torch.from_numpy(batch.pixels) for batch in batches])


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
