"""A stream of tiles, read ahead in batches by threads that outlive a slide."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from mil.errors import SeveralImagesError, SlideError, UnreadableSlideError
from mil.io.slides.level_blocks import Decoder
from mil.io.slides.reader import SlideReader
from mil.io.slides.window import Resample, resample

# Neighbouring tiles read by one thread in one go: they share blocks.
RUN = 8
# Batches being read while the caller has one.
AHEAD = 2


@dataclass(frozen=True, eq=False)
class TileRequest:
    """Tiles of one slide to be read.

    Attributes:
        slide: the slide's file.
        coords: top left corners, level-0 pixels, row by row.
        side_level0_px: side of a tile on the slide, level-0 pixels.
        tile_px: side of a tile as it is returned, pixels.
        scene: name or number of one of several images of the file; see `SlideReader`.
    """

    slide: Path
    coords: Int[np.ndarray, "tiles 2"]
    side_level0_px: float
    tile_px: int
    scene: str = ""


@dataclass(frozen=True, eq=False)
class TileBatch:
    """Consecutive tiles of one request.

    Attributes:
        request: the request that the tiles belong to.
        first: row of the request's coordinates that the first tile belongs to.
        pixels: RGB pixels of the tiles; black where a tile cannot be read.
        readable: whether each tile could be read.
        error: why the slide does not open, in which case no tile is readable; else None.
    """

    request: TileRequest
    first: int
    pixels: UInt8[np.ndarray, "tiles height width 3"]
    readable: Bool[np.ndarray, " tiles"]
    error: SlideError | None = None


def stream(
    requests: Iterable[TileRequest],
    *,
    batch_size: int,
    workers: int,
    decoder: Decoder = "auto",
    resampler: Resample = resample,
) -> Generator[TileBatch, None, None]:
    """Read the tiles of one slide after another; batches come in order and never mix slides.

    Reading runs ahead by a fixed number of batches, over the end of a slide into the
    next, so that memory is bounded and the caller does not wait between slides. Pixels
    and batches do not depend on `workers`. A slide that does not open gives at least
    one batch, with its error.

    Args:
        requests: tiles to read; each request is drawn when reading reaches it.
        batch_size: tiles in a batch; the last batch of a slide may be smaller.
        workers: number of reading threads.
        decoder: choice of decoder; see `SlideReader`.
        resampler: resampling function; see `SlideReader`. Several threads call it at
            once.
    """
    open_slide = partial(_SlideInUse, decoder=decoder, resampler=resampler)
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[_BatchInProgress] = deque()
        batches = _batches(requests, pool, batch_size, open_slide)
        try:
            while True:
                while len(ahead) <= AHEAD and (batch := next(batches, None)) is not None:
                    ahead.append(batch)
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            # The caller may stop early: threads must not outlive the stream.
            for batch in ahead:
                batch.finish()
            batches.close()


class _SlideInUse:
    """A slide, opened by the first thread that reads it and closed after its last batch."""

    def __init__(self, request: TileRequest, decoder: Decoder, resampler: Resample) -> None:
        self.request = request
        self._decoder = decoder
        self._resampler = resampler
        # Two locks, so that counting does not wait for the opening.
        self._opening = threading.Lock()
        self._counting = threading.Lock()
        self._reader: SlideReader | None = None
        self._batches_in_progress = 0
        self._last_begun = False
        self.error: SlideError | None = None

    def reader(self) -> SlideReader | None:
        """The open slide; None if it does not open, and `error` tells why."""
        request = self.request
        with self._opening:
            if self._reader is None and self.error is None:
                try:
                    reader = SlideReader(
                        request.slide, self._decoder, self._resampler, request.scene
                    )
                    reader.expect(request.coords, request.side_level0_px, request.tile_px)
                    self._reader = reader
                except (UnreadableSlideError, SeveralImagesError) as error:
                    self.error = error
            return self._reader

    def count(self, change: int, *, last: bool = False) -> None:
        """Count batches that begin (+1) and end (-1); after the last the slide is closed.

        Args:
            change: change of the number of batches in progress.
            last: whether no further batch will begin.
        """
        with self._counting:
            self._batches_in_progress += change
            self._last_begun |= last
            # A slide with no batch in progress may still get further ones.
            over = self._batches_in_progress == 0 and self._last_begun
            if over and self._reader is not None:
                self._reader.close()
                self._reader = None


class _BatchInProgress:
    """One batch that threads are reading."""

    def __init__(
        self, slide: _SlideInUse, first: int, count: int, pool: ThreadPoolExecutor
    ) -> None:
        size = slide.request.tile_px
        self._slide = slide
        self._first = first
        self._finished = False
        slide.count(1)
        # One array for all threads, each writing its own rows.
        self._pixels = np.empty((count, size, size, 3), np.uint8)
        self._readable = np.zeros(count, bool)
        # A batch without tiles still opens the slide, to learn whether it opens.
        runs = [(start, min(start + RUN, count)) for start in range(0, count, RUN)] or [(0, 0)]
        self._futures: list[Future[None]] = [pool.submit(self._run, *run) for run in runs]

    def _run(self, start: int, stop: int) -> None:
        reader = self._slide.reader()
        request = self._slide.request
        side = request.side_level0_px
        if reader is None:
            self._pixels[start:stop] = 0
            return
        for row in range(start, stop):
            x, y = request.coords[self._first + row]
            try:
                self._pixels[row] = reader.read(float(x), float(y), side, request.tile_px)
                self._readable[row] = True
            except UnreadableSlideError:
                # The array was not initialised.
                self._pixels[row] = 0

    def result(self) -> TileBatch:
        """Wait for the batch."""
        try:
            for future in self._futures:
                future.result()
        finally:
            self.finish()
        slide = self._slide
        return TileBatch(slide.request, self._first, self._pixels, self._readable, slide.error)

    def finish(self) -> None:
        """Wait for runs that have begun and cancel the others."""
        if self._finished:
            return
        self._finished = True
        for future in self._futures:
            future.cancel()
        wait(self._futures)
        self._slide.count(-1)


def _batches(
    requests: Iterable[TileRequest],
    pool: ThreadPoolExecutor,
    batch_size: int,
    open_slide: Callable[[TileRequest], _SlideInUse],
) -> Generator[_BatchInProgress, None, None]:
    for request in requests:
        slide = open_slide(request)
        num_tiles = len(request.coords)
        try:
            for first in range(0, max(1, num_tiles), batch_size):
                yield _BatchInProgress(slide, first, min(batch_size, num_tiles - first), pool)
                # One batch tells the error; the others would be black.
                if slide.error is not None:
                    break
        finally:
            slide.count(0, last=True)
