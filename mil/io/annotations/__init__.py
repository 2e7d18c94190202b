"""Annotated regions: ASAP, ImageScope, HALO and GeoJSON in, GeoJSON out.

Coordinates are level-0 pixels of the whole slide, (x, y). QuPath shows the scanned part
of a slide only (`openslide.bounds-x/y`) and counts from its corner, so GeoJSON is moved
by that origin on its way in and out.
"""

from mil.io.annotations.classes import PositiveClasses
from mil.io.annotations.geojson import feature, write_geojson
from mil.io.annotations.read import SUFFIXES, Annotation, few, read_annotation

__all__ = [
    "SUFFIXES",
    "Annotation",
    "PositiveClasses",
    "feature",
    "few",
    "read_annotation",
    "write_geojson",
]
