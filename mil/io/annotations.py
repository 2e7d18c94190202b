"""Annotated regions: XML of ASAP and ImageScope and GeoJSON in, GeoJSON out.

Coordinates are level-0 pixels of the whole slide, (x, y). QuPath shows the scanned part
of a slide only (`openslide.bounds-x/y`) and counts from its corner, so GeoJSON is moved
by that origin on its way in and out.
"""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, parse
from shapely import MultiPolygon, Polygon, make_valid, unary_union
from shapely.affinity import translate
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from mil.errors import FormatError
from mil.io.atomic import write_text

# What is cut out of the other regions: classes of QuPath and groups of ASAP. CAMELYON16
# names its holes `_2`.
CUT_OUT = {"ignore", "hole", "exclude", "exclusion", "_2"}
NO_AREA = {"Dot", "PointSet", "Measurement"}  # types of ASAP
# types of ImageScope
ARROW = "3"
RULER = "4"
ELLIPSE = "2"
# Parsed, a file takes some ten times its size in memory; outlines of a slide have a few
# MB.
LARGEST_BYTES = 100_000_000
LARGEST_PX = 1e8  # no slide reaches so far
# What reading JSON of another shape raises.
NOT_GEOJSON = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    ShapelyError,
)

Parts = list[tuple[bool, BaseGeometry]]  # is it cut out, and where


def read_annotation(path: Path, origin_px: tuple[int, int] = (0, 0)) -> MultiPolygon:
    """All annotated regions of a slide as one geometry; what is to be ignored taken out, self-crossings mended.

    Args:
        path: ASAP or ImageScope .xml, or .geojson.
        origin_px: what GeoJSON counts from, level-0 pixels; (0, 0): the corner of the
            whole slide.

    Returns:
        Polygons, level-0 pixels of the whole slide; lines and points are left out.

    Raises:
        FormatError: it is neither ASAP XML, ImageScope XML nor GeoJSON, or holds a
            place that is on no slide.
    """
    readers: dict[str, Callable[[Path], Parts]] = {
        ".xml": _read_xml,
        ".geojson": _read_geojson,
        ".json": _read_geojson,
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise FormatError(
            f"{path}: annotations are read from ASAP .xml or .geojson, not {path.suffix or 'this'}"
        )
    _check_size(path)
    try:
        parts = readers[suffix](path)
        wanted, unwanted = (
            unary_union([_polygons(g) for cut, g in parts if cut == out]) for out in (False, True)
        )
        regions = _polygons(wanted.difference(unwanted))
    except ShapelyError as error:
        raise FormatError(f"{path}: its polygons cannot be joined: {error}") from None
    return regions if suffix == ".xml" else translate(regions, *origin_px)


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    if size > LARGEST_BYTES:
        raise FormatError(
            f"{path}: {size / 1e6:.0f} MB are too much for outlines of one slide; at most "
            f"{LARGEST_BYTES / 1e6:.0f} MB"
        )


def _read_xml(path: Path) -> Parts:
    try:
        root = parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise FormatError(f"{path}: not an ASAP annotation: {error}") from None
    if root is not None and root.tag == "ASAP_Annotations":
        return [part for element in root.iter("Annotation") for part in _asap_part(element, path)]
    if root is not None and root.tag == "Annotations" and root.find("Annotation") is not None:
        return [part for element in root.iter("Region") for part in _imagescope_part(element, path)]
    found = "nothing" if root is None else f"<{root.tag}>"
    raise FormatError(
        f"{path}: not an ASAP annotation: its root is {found}, not <ASAP_Annotations> (or "
        "ImageScope's <Annotations>)"
    )


def _asap_part(element: Any, path: Path) -> Parts:
    corners = [
        tuple(_number(c, name, path) for name in ("Order", "X", "Y"))
        for c in element.iter("Coordinate")
    ]
    if len(corners) < 3 or element.get("Type") in NO_AREA:
        return []
    polygon = Polygon([(x, y) for _, x, y in sorted(corners)])
    return [(_is_cut_out(element.get("PartOfGroup", "")), make_valid(polygon))]


def _imagescope_part(element: Any, path: Path) -> Parts:
    corners = [(_number(c, "X", path), _number(c, "Y", path)) for c in element.iter("Vertex")]
    if element.get("Type") == ELLIPSE and len(corners) == 2:
        raise FormatError(
            f"{path}: an ellipse of ImageScope has no outline in its file; draw it as a polygon"
        )
    if len(corners) < 3 or element.get("Type") in (ARROW, RULER):
        return []
    return [(element.get("NegativeROA") == "1", make_valid(Polygon(corners)))]


def _number(element: Any, name: str, path: Path) -> float:
    try:
        value = float(element.get(name, ""))
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST_PX:
        raise FormatError(
            f"{path}: a {element.tag} without a number in {name} that can be a place on a slide"
        )
    return value


def _read_geojson(path: Path) -> Parts:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refused)
        # A feature without a place is legal GeoJSON.
        features = [feature for feature in _features(raw) if feature["geometry"] is not None]
        shapes = [shape(feature["geometry"]) for feature in features]
        if not (np.abs(shapely.get_coordinates(shapes)) <= LARGEST_PX).all():
            raise ValueError("a coordinate is on no slide")
        return [
            (_is_cut_out(_class(f)), make_valid(where))
            for f, where in zip(features, shapes, strict=True)
        ]
    except NOT_GEOJSON as error:
        raise FormatError(f"{path}: not GeoJSON with polygons: {error}") from None


def _features(raw: Any) -> list[Any]:
    if isinstance(raw, list):
        return raw
    if raw.get("type") == "Feature":
        return [raw]
    return [{"geometry": raw}] if "coordinates" in raw or "geometries" in raw else raw["features"]


def _class(feature: Any) -> str:
    """The name of a feature's class as QuPath writes it: `name`, or `names` of a class that is derived."""
    said = (feature.get("properties") or {}).get("classification") or {}
    return said if isinstance(said, str) else str((said.get("names") or [said.get("name")])[0])


def _is_cut_out(name: str) -> bool:
    return name.split(":")[0].strip().rstrip("*").lower() in CUT_OUT


def _refused(constant: str) -> float:
    raise ValueError(f"a coordinate is {constant}")


def _polygons(geometry: BaseGeometry) -> MultiPolygon:
    parts = [geometry]
    while any(hasattr(part, "geoms") for part in parts):
        parts = [inner for part in parts for inner in getattr(part, "geoms", [part])]
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and not part.is_empty])


def feature(geometry: BaseGeometry, properties: dict[str, Any]) -> dict[str, Any]:
    """One GeoJSON feature as QuPath reads it; level-0 pixels of the whole slide."""
    return {"type": "Feature", "geometry": mapping(geometry), "properties": properties}


def write_geojson(
    path: Path, features: Iterable[dict[str, Any]], origin_px: tuple[int, int] = (0, 0)
) -> None:
    """Write features as a GeoJSON FeatureCollection, whole or not at all.

    Args:
        path: where to.
        features: see `feature`.
        origin_px: where the scanned part of the slide begins, which QuPath counts from,
            level-0 pixels.
    """
    left, top = origin_px
    moved = [
        {**one, "geometry": mapping(translate(shape(one["geometry"]), -left, -top))}
        if any(origin_px)
        else one
        for one in features
    ]
    write_text(path, json.dumps({"type": "FeatureCollection", "features": moved}, allow_nan=False))
