"""`mil bench read`: tiles a second, by stage, beside a plain loop over OpenSlide."""

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
from jaxtyping import Int
from PIL import Image

from mil.bench.results_table import Outcome, Row
from mil.bench.slides import CODECS, made
from mil.errors import NoTissueError
from mil.io.slides import SlideReader, TileRequest, stream
from mil.io.slides.tiff import TiffBlocks
from mil.io.slides.window import resample
from mil.tile.grid import footprint_px, grid

BATCH = 64
NOTE = (
    "loop: one OpenSlide read_region and RGB conversion a tile, and a resize where the scale "
    "differs, a handle a "
    "thread; ours: the stream that `features` reads from. read (fetch the compressed bytes), "
    "decode, assemble and "
    "resample: one thread, ms a tile; by OpenSlide all is assemble. Medians. "
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
) -> Outcome:
    """Time reading the tiles of slides, as they are stored and at a given scale.

    Args:
        slides: what to read; none: two synthetic ones of 60 000 x 60 000 px, JPEG and
            JPEG 2000.
        threads: of the loop and of ours alike.
        tiles: how many tiles of each slide, at most.
        tile_px: side of a tile, pixels.
        target_mpp: scale of the second measurement, micrometres per pixel.
        repeats: of each, in turns; the median counts.
    """
    with TemporaryDirectory() as folder:
        paths = list(slides) or [made(Path(folder), codec) for codec in CODECS]
        measure = partial(
            _rows,
            threads=threads,
            tiles=tiles,
            tile_px=tile_px,
            target_mpp=target_mpp,
            repeats=repeats,
        )
        rows = [row for path in paths for row in measure(path)]
    return Outcome(f"mil bench read, {threads} threads, tiles of {tile_px} px", rows, NOTE)


def _rows(
    path: Path, *, threads: int, tiles: int, tile_px: int, target_mpp: float, repeats: int
) -> list[Row]:
    with SlideReader(path) as reader:
        mpp = reader.resolution().mpp
        sides = {
            "as stored": float(tile_px),
            f"{target_mpp:g} µm/px": footprint_px(tile_px, target_mpp, mpp),
        }
        rows: list[Row] = []
        for scale, side in sides.items():
            request = TileRequest(path, corners(reader, side, tiles), side, tile_px)
            level = reader.level_for(side / tile_px)
            count = len(request.coords)
            plain = partial(plain_loop, request, level, reader.levels[level].downsample, threads)
            loop, ours = _in_turns((plain, partial(_ours, request, threads)), repeats)
            blocks = reader.blocks(level)
            codec = (
                f"{blocks.compression}, direct"
                if isinstance(blocks, TiffBlocks)
                else "by OpenSlide"
            )
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


def corners(reader: SlideReader, side: float, tiles: int) -> Int[np.ndarray, "tiles 2"]:
    """Whole rows of tiles around the middle of the slide, where tissue usually is."""
    whole = grid(reader.extent_px, side, reader.origin_px)
    if len(whole) == 0:
        raise NoTissueError(reader.path, f"smaller than one tile ({side:.0f} px); nothing to time")
    columns = len(np.unique(whole[:, 0]))
    rows = len(whole) // max(columns, 1)
    across = slice(columns // 4, columns - columns // 4) if columns > 40 else slice(None)
    chosen = whole.reshape(rows, columns, 2)[:, across]
    wanted = min(rows, math.ceil(tiles / chosen.shape[1]))
    first = (rows - wanted) // 2
    return chosen[first : first + wanted].reshape(-1, 2)


def plain_loop(request: TileRequest, level: int, downsample: float, threads: int) -> None:
    """What one writes first: a region a tile."""
    local = threading.local()
    size = round(request.side_level0_px / downsample)

    def open_slide() -> None:
        local.slide = openslide.OpenSlide(request.slide)

    def read(corner: Int[np.ndarray, " 2"]) -> Image.Image:
        tile = local.slide.read_region(
            (int(corner[0]), int(corner[1])), level, (size, size)
        ).convert("RGB")
        return (
            tile
            if size == request.tile_px
            else tile.resize((request.tile_px,) * 2, Image.Resampling.BICUBIC)
        )

    with ThreadPoolExecutor(threads, initializer=open_slide) as pool:
        for _ in pool.map(read, request.coords):
            pass


def _ours(request: TileRequest, threads: int) -> None:
    for batch in stream([request], batch_size=BATCH, workers=threads):
        assert batch.readable.all()


def _in_turns(calls: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """Seconds of each call, the median over rounds in which each has its turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            began = perf_counter()
            call()
            taken.append(perf_counter() - began)
    return [median(taken) for taken in times]


def _stages(path: Path, request: TileRequest) -> dict[str, float]:
    """Milliseconds a tile of one thread, stage by stage."""
    taken = dict.fromkeys(("read_ms", "decode_ms", "assemble_ms", "resample_ms"), 0.0)
    side = request.side_level0_px
    size = request.tile_px
    with SlideReader(path) as reader:
        reader.expect(request.coords, side, size)
        number = reader.level_for(side / size)
        level = reader.levels[number]
        blocks = reader.blocks(number)
        if isinstance(blocks, TiffBlocks):
            _time(blocks, "fetch", taken, "read_ms")
            _time(blocks, "decode", taken, "decode_ms")
        for x, y in request.coords.astype(float):
            left = x / level.downsample_x
            top = y / level.downsample_y
            width = side / level.downsample_x
            height = side / level.downsample_y
            began = perf_counter()
            window = reader.window(number, left, top, left + width, top + height)
            assembled = perf_counter()
            resample(window, left, top, width, height, (size, size))
            taken["assemble_ms"] += assembled - began
            taken["resample_ms"] += perf_counter() - assembled
    taken["assemble_ms"] -= taken["read_ms"] + taken["decode_ms"]
    return {stage: 1e3 * seconds / len(request.coords) for stage, seconds in taken.items()}


def _time(blocks: TiffBlocks, method: str, taken: dict[str, float], stage: str) -> None:
    """Count the seconds that a method of one object takes."""
    call = getattr(blocks, method)

    def timed(*arguments: Any) -> Any:
        began = perf_counter()
        result = call(*arguments)
        taken[stage] += perf_counter() - began
        return result

    setattr(blocks, method, timed)
