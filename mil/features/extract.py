"""Read tiles on some threads while others compute: the encoder does not wait for pixels, nor pixels for it."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mil.features.resample import fast_resample
from mil.io.slides import Resample, TileBatch, TileRequest, stream


class Encode(Protocol):
    """Pixels of tiles to features of `dim` numbers."""

    dim: int

    def __call__(
        self, pixels: UInt8[Tensor, "tiles height width 3"]
    ) -> Float[Tensor, "tiles dim"]: ...


@dataclass(frozen=True, eq=False)
class Extracted:
    """Features by encoder, in the order of the tiles; zeros where a tile could not be read.

    `valid` says which tiles could be read; after the first `tried` nobody looked.
    """

    features: list[Float[np.ndarray, "tiles dim"]]
    valid: Bool[np.ndarray, " tiles"]
    tried: int


@dataclass(frozen=True, eq=False)
class Step:
    """Features of consecutive tiles, from row `first` on: by encoder, a row for each of those that are `readable`."""

    first: int
    readable: Bool[np.ndarray, " tiles"]
    features: list[Float[np.ndarray, "readable dim"]]


def extract(
    request: TileRequest,
    encoders: Sequence[Encode],
    *,
    batch_size: int,
    workers: int,
    lanes: int,
    dtype: str = "float32",
    max_unreadable: int | None = None,
    resampler: Resample = fast_resample,
    advance: Callable[[int], object] = lambda _: None,
) -> Extracted:
    """Features of all tiles of a slide, by one encoder or several, from one reading; see `steps`.

    Args:
        request: see `steps`.
        encoders: see `steps`.
        batch_size: see `steps`.
        workers: see `steps`.
        lanes: see `steps`.
        dtype: of the features; what it cannot hold becomes infinite.
        max_unreadable: see `steps`.
        resampler: see `steps`.
        advance: told the number of tiles done after each step.

    Raises:
        UnreadableSlideError: the slide does not open.
    """
    count = len(request.coords)
    found = [np.zeros((count, encode.dim), dtype) for encode in encoders]
    valid = np.zeros(count, bool)
    tried = 0
    made = steps(
        request,
        encoders,
        batch_size=batch_size,
        workers=workers,
        lanes=lanes,
        max_unreadable=max_unreadable,
        resampler=resampler,
    )
    with closing(made):
        for step in made:
            rows = slice(step.first, step.first + len(step.readable))
            for features, new in zip(found, step.features, strict=True):
                with np.errstate(over="ignore"):
                    features[rows][step.readable] = new
            valid[rows], tried = step.readable, rows.stop
            advance(len(step.readable))
    return Extracted(found, valid, tried)


def steps(
    request: TileRequest,
    encoders: Sequence[Encode],
    *,
    batch_size: int,
    workers: int,
    lanes: int,
    max_unreadable: int | None = None,
    resampler: Resample = fast_resample,
) -> Generator[Step, None, None]:
    """Features of a slide's tiles as they come, in the order of the tiles; close it when no more are wanted.

    Batches do not depend on `workers` and `lanes`, so neither do features. Memory is
    bounded by the batches under way: those read ahead, and one more than `lanes` being
    encoded.

    Args:
        request: the slide and its tiles.
        encoders: who computes; each sees every batch.
        batch_size: tiles a step.
        workers: reading threads.
        lanes: encoding threads.
        max_unreadable: with more unreadable tiles than this the rest is not tried;
            None: all are.
        resampler: see `SlideReader`.

    Raises:
        UnreadableSlideError: the slide does not open.
    """
    unreadable = 0
    under_way: deque[_Batch] = deque()
    batches = stream([request], batch_size=batch_size, workers=workers, resampler=resampler)
    with ThreadPoolExecutor(lanes) as pool, closing(batches):
        try:
            for batch in batches:
                if batch.error is not None:
                    raise batch.error
                under_way.append(_Batch(batch, encoders, pool))
                unreadable += int((~batch.readable).sum())
                if len(under_way) > lanes:
                    yield under_way.popleft().step()
                if max_unreadable is not None and unreadable > max_unreadable:
                    break
            while under_way:
                yield under_way.popleft().step()
        finally:
            for waiting in under_way:
                waiting.cancel()


class _Batch:
    """One batch on its way through the encoders."""

    def __init__(
        self, batch: TileBatch, encoders: Sequence[Encode], pool: ThreadPoolExecutor
    ) -> None:
        self._first = batch.first
        self._readable = batch.readable
        self._dims = [encode.dim for encode in encoders]
        self._futures: list[Future[Tensor]] = []
        if batch.readable.any():
            pixels = torch.from_numpy(
                batch.pixels if batch.readable.all() else batch.pixels[batch.readable]
            )
            self._futures = [pool.submit(encode, pixels) for encode in encoders]

    def step(self) -> Step:
        features = [future.result().numpy() for future in self._futures]
        none = [np.empty((0, dim), np.float32) for dim in self._dims]
        return Step(self._first, self._readable, features or none)

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()
