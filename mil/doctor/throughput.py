"""How fast one core reads the tiles of these slides from this disk."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from mil.doctor.findings import Rate, SlideFinding
from mil.io.slides import TileRequest, stream

NUM_SLIDES = 3


def measure(slides: Sequence[SlideFinding], tile_px: int, tiling: str) -> list[Rate]:
    """Read some tiles of slides of different formats, as `features` does, opening the slide included.

    Args:
        slides: all that are ok.
        tile_px: side of a tile, pixels.
        tiling: its name.
    """
    return [
        rate
        for slide in choose(slides, tiling)
        if (rate := _measure(slide, tile_px, tiling)) is not None
    ]


def _measure(slide: SlideFinding, tile_px: int, tiling: str) -> Rate | None:
    at = slide.tilings[tiling]
    request = TileRequest(Path(slide.file), at.to_time, at.side_level0_px, tile_px)
    began = perf_counter()
    count = sum(int(batch.readable.sum()) for batch in stream([request], batch_size=32, workers=1))
    seconds = perf_counter() - began
    return Rate(slide.format, slide.slide, count, count / seconds) if count else None


def choose(slides: Sequence[SlideFinding], tiling: str) -> list[SlideFinding]:
    """The slide with most tiles of each format, largest first."""
    best: dict[str, SlideFinding] = {}
    for slide in sorted(slides, key=lambda slide: -slide.tilings[tiling].num_tiles):
        if len(slide.tilings[tiling].to_time):
            best.setdefault(slide.format, slide)
    return list(best.values())[:NUM_SLIDES]
