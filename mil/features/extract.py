"""Features of a slide's tiles: some threads read tiles while others encode batches."""

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

from mil.encoders.resample import fast_resample
from mil.encoders.runner import ExtractionSettings
from mil.io.slides import Resample, TileBatch, TileRequest, stream


class EncodesTiles(Protocol):
    """A function from the pixels of tiles to feature vectors of length `dim`."""

    dim: int

    def __call__(
        self, pixels: UInt8[Tensor, "tiles height width 3"]
    ) -> Float[Tensor, "tiles dim"]: ...


# Not comparable (eq=False): two arrays compare to an array, not to a Boolean.
@dataclass(frozen=True, eq=False)
class ExtractedFeatures:
    """Features of all tiles of a slide.

    Attributes:
        features: One array per encoder, in the order of the tiles; zeros where a tile
            could not be read.
        valid: Whether each tile could be read.
        num_tried: Number of tiles, from the first, that were tried.
    """

    features: list[Float[np.ndarray, "tiles dim"]]
    valid: Bool[np.ndarray, " tiles"]
    num_tried: int


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Features of consecutive tiles.

    Attributes:
        first: Row of the first tile among all tiles of the slide.
        readable: Whether each tile of the batch could be read.
        features: One array per encoder with a row for each readable tile.
    """

    first: int
    readable: Bool[np.ndarray, " tiles"]
    features: list[Float[np.ndarray, "readable dim"]]

    @property
    def rows(self) -> slice:
        """Rows of the batch among all tiles of the slide."""
        return slice(self.first, self.first + len(self.readable))


def extract(
    request: TileRequest,
    encoders: Sequence[EncodesTiles],
    settings: ExtractionSettings,
    *,
    dtype: str = "float32",
    resampler: Resample = fast_resample,
    advance: Callable[[int], object] = lambda _: None,
) -> ExtractedFeatures:
    """Features of all tiles of a slide by one or several encoders, each tile read once.

    Args:
        request: Slide and its tiles.
        encoders: Encoders; each gets every batch.
        settings: Batch size, threads, and the number of unreadable tiles that ends
            reading.
        dtype: Dtype of the stored features; values out of its range become infinite.
        resampler: Function that resamples tiles; see `SlideReader`.
        advance: Called with the number of tiles after each batch.

    Raises:
        UnreadableSlideError: The slide does not open.
    """
    num_tiles = len(request.coords)
    features = [np.zeros((num_tiles, encoder.dim), dtype) for encoder in encoders]
    valid = np.zeros(num_tiles, bool)
    num_tried = 0
    batches = encoded_batches(request, encoders, settings, resampler=resampler)
    # Closed also after an error, so that the threads end with this function.
    with closing(batches):
        for batch in batches:
            for stored, encoded in zip(features, batch.features, strict=True):
                # Infinite features are an error of the stage, with advice, and no warning.
                with np.errstate(over="ignore"):
                    stored[batch.rows][batch.readable] = encoded
            valid[batch.rows] = batch.readable
            # Batches come in order, so all tiles before this row were tried.
            num_tried = batch.rows.stop
            advance(len(batch.readable))
    return ExtractedFeatures(features, valid, num_tried)


def encoded_batches(
    request: TileRequest,
    encoders: Sequence[EncodesTiles],
    settings: ExtractionSettings,
    *,
    resampler: Resample = fast_resample,
) -> Generator[EncodedBatch, None, None]:
    """Features of a slide's tiles as a stream, in the order of the tiles.

    Close the generator to stop early. Batches do not depend on the number of threads,
    so neither do features. Memory is bounded by the pending batches: those read ahead,
    and one more than `encoder_threads` being encoded.

    Args:
        request: Slide and its tiles.
        encoders: Encoders; each gets every batch.
        settings: Batch size, threads, and the number of unreadable tiles that ends
            reading.
        resampler: Function that resamples tiles; see `SlideReader`.

    Raises:
        UnreadableSlideError: The slide does not open.
    """
    num_unreadable = 0
    pending: deque[_PendingBatch] = deque()
    batches = stream(
        [request],
        batch_size=settings.batch_size,
        workers=settings.reader_threads,
        resampler=resampler,
    )
    # Threads suffice: decoding and matrix products release Python's lock.
    with ThreadPoolExecutor(settings.encoder_threads) as pool, closing(batches):
        try:
            for batch in batches:
                # The slide does not open. Unreadable tiles are no error, but counted.
                if batch.error is not None:
                    raise batch.error
                pending.append(_PendingBatch(batch, encoders, pool))
                num_unreadable += int((~batch.readable).sum())
                # One more than the threads: none of them waits while a batch is used.
                if len(pending) > settings.encoder_threads:
                    yield pending.popleft().result()
                if settings.max_unreadable is not None and num_unreadable > settings.max_unreadable:
                    break
            while pending:
                yield pending.popleft().result()
        finally:
            # Without this the pool would encode them all before it ends.
            for waiting in pending:
                waiting.cancel()


class _PendingBatch:
    """A batch on its way through the encoders."""

    def __init__(
        self, batch: TileBatch, encoders: Sequence[EncodesTiles], pool: ThreadPoolExecutor
    ) -> None:
        self._first = batch.first
        self._readable = batch.readable
        self._dims = [encoder.dim for encoder in encoders]
        self._futures: list[Future[Tensor]] = []
        if batch.readable.any():
            # Indexing copies, and most batches have no unreadable tile.
            all_readable = batch.readable.all()
            pixels = batch.pixels if all_readable else batch.pixels[batch.readable]
            tensor = torch.from_numpy(pixels)
            self._futures = [pool.submit(encoder, tensor) for encoder in encoders]

    def result(self) -> EncodedBatch:
        features = [future.result().numpy() for future in self._futures]
        # No tile of the batch could be read, so nothing was encoded.
        if not features:
            features = [np.empty((0, dim), np.float32) for dim in self._dims]
        return EncodedBatch(self._first, self._readable, features)

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()
