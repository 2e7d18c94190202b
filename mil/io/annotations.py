"""Annotated regions: XML of ASAP and ImageScope and GeoJSON in, GeoJSON out.

Coordinates are level-0 pixels of the whole slide, (x, y). QuPath shows the scanned part
of a slide only (`openslide.bounds-x/y`) and counts from its corner, so GeoJSON is moved
by that origin on its way in and out.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, parse
from pydantic import JsonValue
from shapely import MultiPolygon, Polygon, make_valid, unary_union
from shapely.affinity import translate
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from mil.errors import FormatError
from mil.io.atomic import write_text

# Names of regions that are cut out of the others: classes of QuPath and groups of ASAP.
# CAMELYON16 calls its holes `_2`.
CUT_OUT = {"ignore", "hole", "exclude", "exclusion", "_2"}
# Types of ASAP's annotations that have no area.
NO_AREA = {"Dot", "PointSet", "Measurement"}
# Types of ImageScope's regions.
ELLIPSE = "2"
ARROW = "3"
RULER = "4"
# Parsed, a file takes some ten times its size in memory; outlines of a slide have a few
# MB.
LARGEST_BYTES = 100_000_000
# No slide reaches so far, level-0 pixels.
LARGEST_PX = 1e8
# Errors of reading JSON of another structure.
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

# Whether each region is cut out of the others, and its geometry.
Regions = list[tuple[bool, BaseGeometry]]


def read_annotation(path: Path, origin_px: tuple[int, int] = (0, 0)) -> MultiPolygon:
    """All annotated regions of a slide as one geometry.

    Regions to be ignored are cut out, self-crossing outlines mended.

    Args:
        path: ASAP or ImageScope .xml, or .geojson.
        origin_px: corner that GeoJSON counts from, level-0 pixels; (0, 0): that of the
            whole slide.

    Returns:
        Polygons, level-0 pixels of the whole slide; lines and points are left out.

    Raises:
        FormatError: the file is neither ASAP XML, ImageScope XML nor GeoJSON, or holds
            a position that is on no slide.
    """
    readers: dict[str, Callable[[Path], Regions]] = {
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
        regions = readers[suffix](path)
        included = unary_union([_polygons(region) for cut_out, region in regions if not cut_out])
        excluded = unary_union([_polygons(region) for cut_out, region in regions if cut_out])
        polygons = _polygons(included.difference(excluded))
    except ShapelyError as error:
        raise FormatError(f"{path}: its polygons cannot be joined: {error}") from None
    return polygons if suffix == ".xml" else translate(polygons, *origin_px)


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    if size > LARGEST_BYTES:
        raise FormatError(
            f"{path}: {size / 1e6:.0f} MB are too much for outlines of one slide; at most "
            f"{LARGEST_BYTES / 1e6:.0f} MB. Export its regions without cells, or simplify them"
        )


def _read_xml(path: Path) -> Regions:
    try:
        root = parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise FormatError(f"{path}: not an ASAP annotation: {error}") from None
    if root is not None and root.tag == "ASAP_Annotations":
        elements = root.iter("Annotation")
        return [region for element in elements for region in _asap_region(element, path)]
    if root is not None and root.tag == "Annotations" and root.find("Annotation") is not None:
        elements = root.iter("Region")
        return [region for element in elements for region in _imagescope_region(element, path)]
    tag = "nothing" if root is None else f"<{root.tag}>"
    raise FormatError(
        f"{path}: not an ASAP annotation: its root is {tag}, not <ASAP_Annotations> (or "
        "ImageScope's <Annotations>)"
    )


def _asap_region(element: Any, path: Path) -> Regions:
    """The region of an ASAP annotation; nothing where it has no area."""
    vertices = []
    for vertex in element.iter("Coordinate"):
        order, x, y = (_number(vertex, name, path) for name in ("Order", "X", "Y"))
        vertices.append((order, x, y))
    if len(vertices) < 3 or element.get("Type") in NO_AREA:
        return []
    polygon = Polygon([(x, y) for _, x, y in sorted(vertices)])
    return [(_is_cut_out(element.get("PartOfGroup", "")), make_valid(polygon))]


def _imagescope_region(element: Any, path: Path) -> Regions:
    """The region of an ImageScope annotation; nothing where it has no area."""
    vertices = [
        (_number(vertex, "X", path), _number(vertex, "Y", path))
        for vertex in element.iter("Vertex")
    ]
    if element.get("Type") == ELLIPSE and len(vertices) == 2:
        raise FormatError(
            f"{path}: an ellipse of ImageScope has no outline in its file; draw it as a polygon"
        )
    if len(vertices) < 3 or element.get("Type") in (ARROW, RULER):
        return []
    return [(element.get("NegativeROA") == "1", make_valid(Polygon(vertices)))]


def _number(element: Any, name: str, path: Path) -> float:
    try:
        value = float(element.get(name, ""))
    except ValueError:
        value = math.nan
    # Written so that it refuses NaN too.
    if not abs(value) <= LARGEST_PX:
        raise FormatError(
            f"{path}: a {element.tag} without a number in {name} that can be a place on a slide"
        )
    return value


def _read_geojson(path: Path) -> Regions:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
        # A feature without a geometry is legal GeoJSON.
        features = [feature for feature in _features(raw) if feature["geometry"] is not None]
        shapes = [shape(feature["geometry"]) for feature in features]
        if not (np.abs(shapely.get_coordinates(shapes)) <= LARGEST_PX).all():
            raise ValueError("a coordinate is on no slide")
        return [
            (_is_cut_out(_class_name(feature)), make_valid(geometry))
            for feature, geometry in zip(features, shapes, strict=True)
        ]
    except NOT_GEOJSON as error:
        raise FormatError(f"{path}: not GeoJSON with polygons: {error}") from None


def _features(raw: Any) -> list[Any]:
    """The features of a list, a feature, a geometry or a collection of either."""
    if isinstance(raw, list):
        return raw
    if raw.get("type") == "Feature":
        return [raw]
    if "coordinates" in raw or "geometries" in raw:
        return [{"geometry": raw}]
    return raw["features"]


def _class_name(feature: Any) -> str:
    """The name of a feature's class as QuPath writes it.

    It is `name`, or the first of `names` for a class that is derived from others.
    """
    classification = (feature.get("properties") or {}).get("classification") or {}
    if isinstance(classification, str):
        return classification
    names = classification.get("names") or [classification.get("name")]
    return str(names[0])


def _is_cut_out(name: str) -> bool:
    # QuPath writes a derived class as `Ignore: Necrosis`, and marks ignored ones by `*`.
    return name.split(":")[0].strip().rstrip("*").lower() in CUT_OUT


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"a coordinate is {constant}")


def _polygons(geometry: BaseGeometry) -> MultiPolygon:
    """The polygons of a geometry, however deep its collections."""
    parts = [geometry]
    while any(hasattr(part, "geoms") for part in parts):
        parts = [inner for part in parts for inner in getattr(part, "geoms", [part])]
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and not part.is_empty])


def feature(geometry: BaseGeometry, properties: dict[str, Any]) -> dict[str, Any]:
    """One GeoJSON feature as QuPath reads it; level-0 pixels of the whole slide."""
    return {"type": "Feature", "geometry": mapping(geometry), "properties": properties}


def write_geojson(
    path: Path,
    features: Iterable[dict[str, Any]],
    origin_px: tuple[int, int] = (0, 0),
    about: Mapping[str, JsonValue] | None = None,
) -> None:
    """Write features as a GeoJSON FeatureCollection, whole or not at all.

    Args:
        path: file to write.
        features: GeoJSON features; see `feature`.
        origin_px: corner of the scanned part of the slide, which QuPath counts from,
            level-0 pixels.
        about: further members of the collection, which readers may ignore (RFC 7946,
            section 6.1).
    """
    left, top = origin_px
    written = []
    for item in features:
        if any(origin_px):
            moved = translate(shape(item["geometry"]), -left, -top)
            item = {**item, "geometry": mapping(moved)}
        written.append(item)
    collection = {"type": "FeatureCollection", "features": written, **(about or {})}
    write_text(path, json.dumps(collection, allow_nan=False))
