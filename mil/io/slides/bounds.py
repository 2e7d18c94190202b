"""The scanned part of a slide, as the properties `openslide.bounds-...` state it."""

from collections.abc import Mapping

import openslide

from mil.io.slides.levels import whole_number


def origin_of(properties: Mapping[str, str], size_px: tuple[int, int]) -> tuple[int, int]:
    """Corner of the scanned part, level-0 pixels; (0, 0) where it is not stated.

    Args:
        properties: properties of the slide.
        size_px: width and height of level 0, pixels.
    """
    width, height = size_px
    left = whole_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_X), 0)
    top = whole_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_Y), 0)
    # A part that lies outside the slide is none.
    return (left, top) if 0 <= left < width and 0 <= top < height else (0, 0)


def extent_of(properties: Mapping[str, str], size_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the scanned part, level-0 pixels; all of the slide by default.

    Args:
        properties: properties of the slide.
        size_px: width and height of level 0, pixels.
    """
    left, top = origin_of(properties, size_px)
    most_x = size_px[0] - left
    most_y = size_px[1] - top
    width = whole_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_WIDTH), most_x)
    height = whole_number(properties.get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT), most_y)
    is_inside = 0 < width <= most_x and 0 < height <= most_y
    return (width, height) if is_inside else (most_x, most_y)
