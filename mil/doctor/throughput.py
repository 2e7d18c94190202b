"""Rate at which one core reads tiles of these slides from this disk."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from mil.doctor.findings import Rate, SlideFinding
from mil.io.slides import TileRequest, stream

# Formats that are measured, one slide each.
NUM_SLIDES = 3


def measure(slides: Sequence[SlideFinding], tile_px: int, tiling: str) -> list[Rate]:
    """Read some tiles of slides of different formats, as `features` does.

    The time to open a slide is included.

    Args:
        slides: All slides that are ok.
        tile_px: Side of a tile, pixels.
        tiling: Name of the tiling.
    """
    rates = [_measure(slide, tile_px, tiling) for slide in choose(slides, tiling)]
    return [rate for rate in rates if rate is not None]


def _measure(slide: SlideFinding, tile_px: int, tiling: str) -> Rate | None:
    finding = slide.tilings[tiling]
    request = TileRequest(
        Path(slide.file), finding.to_time, finding.side_level0_px, tile_px, slide.scene
    )
    start = perf_counter()
    # One worker, because the rate is that of one core.
    batches = stream([request], batch_size=32, workers=1)
    num_tiles = sum(int(batch.readable.sum()) for batch in batches)
    seconds = perf_counter() - start
    return Rate(slide.format, slide.slide, num_tiles, num_tiles / seconds) if num_tiles else None


def choose(slides: Sequence[SlideFinding], tiling: str) -> list[SlideFinding]:
    """The slide with most tiles of each format, largest first."""
    # Formats differ in speed: plain TIFF is decoded fast, everything else by OpenSlide.
    largest_by_format: dict[str, SlideFinding] = {}
    for slide in sorted(slides, key=lambda slide: -slide.tilings[tiling].num_tiles):
        if len(slide.tilings[tiling].to_time):
            largest_by_format.setdefault(slide.format, slide)
    return list(largest_by_format.values())[:NUM_SLIDES]
