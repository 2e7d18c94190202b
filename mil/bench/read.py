"""`mil bench read`: tiles a second by stage, beside a plain loop over OpenSlide."""

import math
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

import numpy as np
import openslide
import torch
from jaxtyping import Int
from PIL import Image

from mil.bench.results_table import BenchmarkTable, Row
from mil.bench.slides import CODECS, synthetic_slide
from mil.encoders.resample import fast_resample
from mil.errors import NoTissueError
from mil.io.slides import SlideReader, TileRequest, stream
from mil.io.slides.tiff import TiffBlocks
from mil.tile.grid import footprint_px, grid

# Tiles in a batch of the stream.
BATCH_TILES = 64
# Slides with more columns are read in their middle half only.
MANY_COLUMNS = 40
NOTE = (
    "loop: one OpenSlide read_region and RGB conversion a tile, and a resize where the scale "
    "differs, with a handle for each thread; ours: the stream and the resampling of "
    "`mil features`. "
    "read (fetch the compressed bytes), decode, assemble and resample: one thread, ms a tile; "
    "for slides that OpenSlide decodes, all is assemble. Medians. "
    "peak: of the process so far, the loop included."
)


def run(
    slides: Sequence[Path],
    *,
    threads: int,
    tiles: int,
    tile_px: int,
    target_mpp: float,
    repeats: int,
) -> BenchmarkTable:
    """Time reading the tiles of slides, as they are stored and at a given scale.

    Args:
        slides: slides to read; none: two synthetic ones of 60 000 x 60 000 px, JPEG and
            JPEG 2000.
        threads: number of threads, of the loop and of the stream alike.
        tiles: approximate number of tiles of each slide.
        tile_px: side of a tile, pixels.
        target_mpp: resolution of the second measurement, micrometres per pixel.
        repeats: number of rounds; the median is reported.
    """
    # As in `features`, whose threads each resample tiles of their own.
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        paths = list(slides) or [synthetic_slide(Path(folder), codec) for codec in CODECS]
        rows: list[Row] = []
        for path in paths:
            rows += _rows(
                path,
                threads=threads,
                tiles=tiles,
                tile_px=tile_px,
                target_mpp=target_mpp,
                repeats=repeats,
            )
    return BenchmarkTable(f"mil bench read, {threads} threads, tiles of {tile_px} px", rows, NOTE)


def _rows(
    path: Path, *, threads: int, tiles: int, tile_px: int, target_mpp: float, repeats: int
) -> list[Row]:
    """Measure one slide, as stored and at the target resolution."""
    with SlideReader(path) as reader:
        mpp = reader.resolution().mpp
        # As stored there is nothing to resample; at the target most slides need it.
        sides = {
            "as stored": float(tile_px),
            f"{target_mpp:g} µm/px": footprint_px(tile_px, target_mpp, mpp),
        }
        rows: list[Row] = []
        for scale, side in sides.items():
            # The same tiles for the loop and the stream.
            request = TileRequest(path, central_corners(reader, side, tiles), side, tile_px)
            level = reader.level_for(side / tile_px)
            count = len(request.coords)
            downsample = reader.levels[level].downsample
            loop, ours = _median_times(
                (
                    partial(plain_loop, request, level, downsample, threads),
                    partial(read_stream, request, threads),
                ),
                repeats,
            )
            blocks = reader.blocks(level)
            codec = "by OpenSlide"
            if isinstance(blocks, TiffBlocks):
                codec = f"{blocks.compression}, direct"
            rows.append(
                {
                    "slide": path.name,
                    "format": f"{reader.vendor} {codec}",
                    "scale": scale,
                    "tiles": count,
                    "loop_tiles/s": count / loop,
                    "ours_tiles/s": count / ours,
                    "ours/loop": loop / ours,
                    **_stages(path, request),
                    "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            )
    return rows


def central_corners(reader: SlideReader, side: float, tiles: int) -> Int[np.ndarray, "tiles 2"]:
    """Corners of whole rows of tiles around the middle of a slide, where tissue usually is.

    Args:
        reader: the slide.
        side: side of a tile, level-0 pixels.
        tiles: number of tiles; the last row may add some.

    Raises:
        NoTissueError: the slide is smaller than a tile.
    """
    corners = grid(reader.extent_px, side, reader.origin_px)
    if len(corners) == 0:
        raise NoTissueError(reader.path, f"smaller than one tile ({side:.0f} px); nothing to time")
    columns = len(np.unique(corners[:, 0]))
    rows = len(corners) // columns
    central = corners.reshape(rows, columns, 2)
    if columns > MANY_COLUMNS:
        central = central[:, columns // 4 : columns - columns // 4]
    num_rows = min(rows, math.ceil(tiles / central.shape[1]))
    first = (rows - num_rows) // 2
    return central[first : first + num_rows].reshape(-1, 2)


def plain_loop(request: TileRequest, level: int, downsample: float, threads: int) -> None:
    """Read tiles as one writes it first: a region of OpenSlide for each tile.

    Args:
        request: the tiles.
        level: level to read from.
        downsample: level-0 pixels per pixel of that level.
        threads: number of threads, each with a handle of its own.
    """
    local = threading.local()
    size = round(request.side_level0_px / downsample)

    def open_slide() -> None:
        local.slide = openslide.OpenSlide(request.slide)

    def read(corner: Int[np.ndarray, " 2"]) -> Image.Image:
        location = (int(corner[0]), int(corner[1]))
        tile = local.slide.read_region(location, level, (size, size)).convert("RGB")
        if size == request.tile_px:
            return tile
        return tile.resize((request.tile_px,) * 2, Image.Resampling.BICUBIC)

    with ThreadPoolExecutor(threads, initializer=open_slide) as pool:
        for _ in pool.map(read, request.coords):
            pass


def read_stream(request: TileRequest, threads: int) -> None:
    """Read tiles as `mil features` does."""
    batches = stream([request], batch_size=BATCH_TILES, workers=threads, resampler=fast_resample)
    for batch in batches:
        # An unreadable tile would be read in no time.
        assert batch.readable.all()


def _median_times(calls: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """Seconds of each call, the median over rounds in which each has its turn.

    Turns, so that a machine that slows down slows all of them.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            began = perf_counter()
            call()
            seconds.append(perf_counter() - began)
    return [median(seconds) for seconds in times]


def _stages(path: Path, request: TileRequest) -> dict[str, float]:
    """Milliseconds a tile of each stage, in one thread."""
    seconds = dict.fromkeys(("read_ms", "decode_ms", "assemble_ms", "resample_ms"), 0.0)
    side = request.side_level0_px
    size = request.tile_px
    tile = np.empty((size, size, 3), np.uint8)
    with SlideReader(path) as reader:
        # As the stream does, so that blocks are kept as long as they are needed.
        reader.expect(request.coords, side, size)
        number = reader.level_for(side / size)
        level = reader.levels[number]
        blocks = reader.blocks(number)
        # OpenSlide fetches and decodes in one call.
        if isinstance(blocks, TiffBlocks):
            _time_method(blocks, "fetch", seconds, "read_ms")
            _time_method(blocks, "decode", seconds, "decode_ms")
        for x, y in request.coords.astype(float):
            left = x / level.downsample_x
            top = y / level.downsample_y
            width = side / level.downsample_x
            height = side / level.downsample_y
            began = perf_counter()
            window = reader.window(number, left, top, left + width, top + height)
            assembled = perf_counter()
            # Put where it belongs, as the stream does.
            tile[:] = fast_resample(window, left, top, width, height, (size, size))
            seconds["assemble_ms"] += assembled - began
            seconds["resample_ms"] += perf_counter() - assembled
    # Fetching and decoding happen within `window`, as a block is needed.
    seconds["assemble_ms"] -= seconds["read_ms"] + seconds["decode_ms"]
    return {stage: 1e3 * total / len(request.coords) for stage, total in seconds.items()}


def _time_method(blocks: TiffBlocks, method: str, seconds: dict[str, float], stage: str) -> None:
    """Let a method of one object add the seconds that it takes to a stage."""
    call = getattr(blocks, method)

    def timed(*arguments: Any) -> Any:
        began = perf_counter()
        result = call(*arguments)
        seconds[stage] += perf_counter() - began
        return result

    setattr(blocks, method, timed)
