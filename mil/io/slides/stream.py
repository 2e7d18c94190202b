"""A stream of tiles: threads that outlive a slide read ahead, in batches, while the caller computes."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from mil.errors import UnreadableSlideError
from mil.io.slides.reader import Decoder, SlideReader
from mil.io.slides.window import Resample, resample

# Neighbouring tiles read by one thread in one go: they share blocks.
RUN = 8
# Batches being read while the caller has one.
AHEAD = 2


@dataclass(frozen=True, eq=False)
class TileRequest:
    """Tiles of one slide: top left corners (level-0 pixels, row by row), their side there and as it is wanted."""

    slide: Path
    coords: Int[np.ndarray, "tiles 2"]
    side_level0_px: float
    tile_px: int


@dataclass(frozen=True, eq=False)
class TileBatch:
    """Consecutive tiles of one request, from row `first` of its coordinates.

    Tiles that cannot be read are black, and `readable` says which could. `error`: the
    slide does not open; then none could.
    """

    request: TileRequest
    first: int
    pixels: UInt8[np.ndarray, "tiles height width 3"]
    readable: Bool[np.ndarray, " tiles"]
    error: UnreadableSlideError | None = None


def stream(
    requests: Iterable[TileRequest],
    *,
    batch_size: int,
    workers: int,
    decoder: Decoder = "auto",
    resampler: Resample = resample,
) -> Generator[TileBatch, None, None]:
    """Read the tiles of one slide after another; batches come in order, and never mix slides.

    Reading runs ahead by a fixed number of batches, over the end of a slide into the
    next, so that memory is bounded and nobody waits between slides. Pixels and batches
    do not depend on `workers`; a slide that does not open gives at least one batch,
    with its error.

    Args:
        requests: what to read; taken one by one as reading gets there.
        batch_size: tiles a batch; the last of a slide may be smaller.
        workers: reading threads.
        decoder: see `SlideReader`.
        resampler: see `SlideReader`; called by several threads at once.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[_Reading] = deque()
        readings = _readings(
            requests, pool, batch_size, partial(_Slide, decoder=decoder, resampler=resampler)
        )
        try:
            while True:
                while len(ahead) <= AHEAD and (reading := next(readings, None)) is not None:
                    ahead.append(reading)
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            for reading in ahead:
                reading.finish()
            readings.close()


class _Slide:
    """A slide, opened by the first reading thread that gets to it and closed after the last of its batches."""

    def __init__(self, request: TileRequest, decoder: Decoder, resampler: Resample) -> None:
        self.request = request
        self._decoder = decoder
        self._resampler = resampler
        # who counts does not wait for the opening
        self._opening = threading.Lock()
        self._counting = threading.Lock()
        self._reader: SlideReader | None = None
        self._under_way = 0
        self._last_begun = False
        self.error: UnreadableSlideError | None = None

    def reader(self) -> SlideReader | None:
        with self._opening:
            if self._reader is None and self.error is None:
                try:
                    reader = SlideReader(self.request.slide, self._decoder, self._resampler)
                    reader.expect(
                        self.request.coords, self.request.side_level0_px, self.request.tile_px
                    )
                    self._reader = reader
                except UnreadableSlideError as error:
                    self.error = error
            return self._reader

    def count(self, change: int, *, last: bool = False) -> None:
        """Batches begin and end; when the last is over the slide is closed."""
        with self._counting:
            self._under_way += change
            self._last_begun |= last
            if self._under_way == 0 and self._last_begun and self._reader is not None:
                self._reader.__exit__(None, None, None)
                self._reader = None


class _Reading:
    """One batch under way."""

    def __init__(self, slide: _Slide, first: int, count: int, pool: ThreadPoolExecutor) -> None:
        size = slide.request.tile_px
        self._slide = slide
        self._first = first
        self._finished = False
        slide.count(1)
        self._pixels = np.empty((count, size, size, 3), np.uint8)
        self._readable = np.zeros(count, bool)
        self._futures: list[Future[None]] = [
            pool.submit(self._run, start, min(start + RUN, count)) for start in range(0, count, RUN)
        ] or [pool.submit(self._run, 0, 0)]

    def _run(self, start: int, stop: int) -> None:
        reader = self._slide.reader()
        request = self._slide.request
        if reader is None:
            self._pixels[start:stop] = 0
            return
        for row in range(start, stop):
            x, y = request.coords[self._first + row]
            try:
                self._pixels[row] = reader.read(
                    float(x), float(y), request.side_level0_px, request.tile_px
                )
                self._readable[row] = True
            except UnreadableSlideError:
                self._pixels[row] = 0

    def result(self) -> TileBatch:
        try:
            for future in self._futures:
                future.result()
        finally:
            self.finish()
        return TileBatch(
            self._slide.request, self._first, self._pixels, self._readable, self._slide.error
        )

    def finish(self) -> None:
        """Wait for what runs, forget what does not run yet."""
        if self._finished:
            return
        self._finished = True
        for future in self._futures:
            future.cancel()
        wait(self._futures)
        self._slide.count(-1)


def _readings(
    requests: Iterable[TileRequest],
    pool: ThreadPoolExecutor,
    batch_size: int,
    make: Callable[[TileRequest], _Slide],
) -> Generator[_Reading, None, None]:
    for request in requests:
        slide = make(request)
        try:
            for first in range(0, max(1, len(request.coords)), batch_size):
                yield _Reading(slide, first, min(batch_size, len(request.coords) - first), pool)
                if slide.error is not None:
                    break
        finally:
            slide.count(0, last=True)
