"""Slides: open, physical scale, exact reads, streams of tiles. The only place that knows OpenSlide and tifffile."""

from mil.io.slides.levels import Level
from mil.io.slides.picture import Picture
from mil.io.slides.reader import SlideReader, as_array
from mil.io.slides.resolution import Resolution
from mil.io.slides.stream import TileBatch, TileRequest, stream
from mil.io.slides.window import Resample, Window, resample

__all__ = [
    "Level",
    "Picture",
    "Resample",
    "Resolution",
    "SlideReader",
    "TileBatch",
    "TileRequest",
    "Window",
    "as_array",
    "resample",
    "stream",
]
