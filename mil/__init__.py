"""Whole-slide images in, MIL heads with honest statistics and attention heatmaps out."""

from mil.versions import TOOL_VERSION as __version__

__all__ = ["__version__"]
