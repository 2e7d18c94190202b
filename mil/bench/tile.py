"""`mil bench tile`: seconds to tile a slide by stage, beside OpenSlide's own thumbnail."""

import resource
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import openslide

from mil.bench.results_table import BenchmarkTable, Row
from mil.bench.slides import CODECS, synthetic_slide
from mil.config import TileConfig
from mil.io.slides import SlideReader, as_array
from mil.memory import keep_freed_memory
from mil.tile.plan import plan_tiles, read_overview
from mil.tile.quality import assess
from mil.tile.stage import run as tile
from mil.tile.tissue import find_tissue

NOTE = (
    "seconds of one process. open, picture (read the overview), mask (find tissue), grid (lay "
    "tiles), quality (pen, blur ...): each stage alone; all: `mil tile` with its files; cpu: "
    "processor time of all. thumbnail: OpenSlide's get_thumbnail of the same size, for "
    "comparison; peak: of the process so far."
)


def run(slides: Sequence[Path], *, tile_px: int, target_mpp: float) -> BenchmarkTable:
    """Time tiling, stage by stage.

    Args:
        slides: slides to tile; none: two synthetic ones of 60 000 x 60 000 px, JPEG and
            JPEG 2000.
        tile_px: side of a tile, pixels.
        target_mpp: resolution of a tile, micrometres per pixel.
    """
    # As in `mil tile`.
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        paths = list(slides) or [synthetic_slide(Path(folder), codec) for codec in CODECS]
        rows = [_row(path, Path(folder), tile_px, target_mpp) for path in paths]
    return BenchmarkTable(
        f"mil bench tile, tiles of {tile_px} px at {target_mpp:g} µm/px", rows, NOTE
    )


class _StopWatch:
    """Seconds between calls."""

    def __init__(self) -> None:
        self._last = perf_counter()

    def __call__(self) -> float:
        now = perf_counter()
        elapsed = now - self._last
        self._last = now
        return elapsed


def _row(path: Path, folder: Path, tile_px: int, target_mpp: float) -> Row:
    config = TileConfig()
    clock = _StopWatch()
    with SlideReader(path) as reader:
        opened = clock()
        mpp = reader.resolution().mpp
        view = read_overview(reader, mpp)
        overview_read = clock()
        plan = plan_tiles(
            reader, mpp, tile_px=tile_px, target_mpp=target_mpp, config=config, overview=view
        )
        planned = clock()
        find_tissue(as_array(plan.overview), mpp * plan.mask_scale, config.min_area_mm2)
        tissue_found = clock()
        assess(reader, plan, mpp)
        assessed = clock()
        width, height = reader.size_px
        slide_format = f"{reader.vendor}, {len(reader.levels)} levels"
    # The whole command once more, with its files and in one piece.
    cpu = process_time()
    clock()
    tile(
        path,
        path.stem,
        folder / "out" / "a.h5",
        tile_px=tile_px,
        target_mpp=target_mpp,
        mpp=None,
        config=config,
    )
    all_stages = clock()
    cpu = process_time() - cpu
    clock()
    with openslide.OpenSlide(path) as slide:
        slide.get_thumbnail(view.image.size)
    return {
        "slide": path.name,
        "format": slide_format,
        "px": f"{width} x {height}",
        "tiles": len(plan.coords),
        "open_s": opened,
        "picture_s": overview_read,
        "mask_s": tissue_found,
        # `plan_tiles` finds tissue and lays the grid; noise may leave less than nothing.
        "grid_s": max(planned - tissue_found, 0.0),
        "quality_s": assessed,
        "all_s": all_stages,
        "cpu_s": cpu,
        "thumbnail_s": clock(),
        "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
