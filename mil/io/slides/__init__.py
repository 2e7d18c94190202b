"""Slides: opening, physical scale, exact reads, streams of tiles.

No other package knows OpenSlide and tifffile.
"""

from mil.io.slides.levels import Level
from mil.io.slides.overview import Overview, draw_overview
from mil.io.slides.reader import SlideReader, as_array
from mil.io.slides.resolution import Resolution
from mil.io.slides.stream import TileBatch, TileRequest, stream
from mil.io.slides.window import Resample, Window, resample

__all__ = [
    "Level",
    "Overview",
    "Resample",
    "Resolution",
    "SlideReader",
    "TileBatch",
    "TileRequest",
    "Window",
    "as_array",
    "draw_overview",
    "resample",
    "stream",
]
