"""Read tiles on some threads while others compute: the encoder does not wait for pixels, nor pixels for it."""

from collections import deque
from collections.abc import Callable, Sequence
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

    def __call__(self, pixels: UInt8[Tensor, "tiles height width 3"]) -> Float[Tensor, "tiles dim"]: ...


@dataclass(frozen=True, eq=False)
class Extracted:
    """Features by encoder, in the order of the tiles; zeros where a tile could not be read.

    `valid` says which tiles could be read; after the first `tried` nobody looked.
    """

    features: list[Float[np.ndarray, "tiles dim"]]
    valid: Bool[np.ndarray, " tiles"]
    tried: int


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
    """Features of all tiles of a slide, by one encoder or several, from one reading.

    Batches do not depend on `workers` and `lanes`, so neither do features. Memory is bounded by the batches under way:
    those read ahead, and one more than `lanes` being encoded.

    Args:
        request: the slide and its tiles.
        encoders: who computes; each sees every batch.
        batch_size: tiles a step.
        workers: reading threads.
        lanes: encoding threads.
        dtype: of the features; what it cannot hold becomes infinite.
        max_unreadable: with more unreadable tiles than this the rest is not tried; None: all are.
        resampler: see `SlideReader`.
        advance: told the number of tiles done after each step.

    Raises:
        UnreadableSlideError: the slide does not open.
    """
    count = len(request.coords)
    found = [np.zeros((count, encode.dim), dtype) for encode in encoders]
    valid = np.zeros(count, bool)
    tried = 0
    under_way: deque[_Step] = deque()
    batches = stream([request], batch_size=batch_size, workers=workers, resampler=resampler)
    with ThreadPoolExecutor(lanes) as pool, closing(batches):
        try:
            for batch in batches:
                if batch.error is not None:
                    raise batch.error
                under_way.append(_Step(batch, encoders, pool))
                tried = batch.first + len(batch.pixels)
                valid[batch.first : tried] = batch.readable
                if len(under_way) > lanes:
                    advance(under_way.popleft().keep(found))
                if max_unreadable is not None and (~valid[:tried]).sum() > max_unreadable:
                    break
            while under_way:
                advance(under_way.popleft().keep(found))
        finally:
            for step in under_way:
                step.cancel()
    return Extracted(found, valid, tried)


class _Step:
    """One batch on its way through the encoders."""

    def __init__(self, batch: TileBatch, encoders: Sequence[Encode], pool: ThreadPoolExecutor) -> None:
        self._batch = batch
        self._futures: list[Future[Tensor]] = []
        if batch.readable.any():
            pixels = torch.from_numpy(batch.pixels if batch.readable.all() else batch.pixels[batch.readable])
            self._futures = [pool.submit(encode, pixels) for encode in encoders]

    def keep(self, found: Sequence[np.ndarray]) -> int:
        """Put the features where they belong; returns the number of tiles."""
        rows = slice(self._batch.first, self._batch.first + len(self._batch.pixels))
        for features, future in zip(found, self._futures, strict=False):  # none where no tile could be read
            with np.errstate(over="ignore"):
                features[rows][self._batch.readable] = future.result().numpy()
        return len(self._batch.pixels)

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()
