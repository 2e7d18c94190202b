"""Annotated regions: ASAP XML and GeoJSON in, GeoJSON out. Coordinates are level-0 pixels, (x, y)."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, parse
from shapely import MultiPolygon, Polygon, make_valid, unary_union
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from mil.errors import FormatError
from mil.io.atomic import write_text

# CAMELYON16: polygons of these groups are holes in the tumour.
HOLE_GROUPS = {"_2", "exclusion"}


def read_annotation(path: Path) -> MultiPolygon:
    """All annotated regions of a slide as one geometry; holes taken out, self-crossings mended.

    Raises:
        FormatError: it is neither ASAP XML nor GeoJSON of polygons.
    """
    readers = {".xml": _read_asap, ".geojson": _read_geojson, ".json": _read_geojson}
    if path.suffix.lower() not in readers:
        raise FormatError(f"{path}: annotations are read from ASAP .xml or .geojson, not {path.suffix or 'this'}")
    return _polygons(readers[path.suffix.lower()](path))


def _read_asap(path: Path) -> BaseGeometry:
    try:
        root = parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError) as error:
        raise FormatError(f"{path}: not an ASAP annotation: {error}") from None
    if root is None or root.tag != "ASAP_Annotations":
        found = "nothing" if root is None else f"<{root.tag}>"
        raise FormatError(f"{path}: not an ASAP annotation: its root is {found}, not <ASAP_Annotations>")
    filled: list[BaseGeometry] = []
    holes: list[BaseGeometry] = []
    for element in root.iter("Annotation"):
        corners = [
            (_number(c, "Order", path), _number(c, "X", path), _number(c, "Y", path))
            for c in element.iter("Coordinate")
        ]
        if len(corners) >= 3:
            polygon = make_valid(Polygon([(x, y) for _, x, y in sorted(corners)]))
            (holes if element.get("PartOfGroup", "").lower() in HOLE_GROUPS else filled).append(polygon)
    return unary_union(filled).difference(unary_union(holes))


def _number(element: Any, name: str, path: Path) -> float:
    try:
        value = float(element.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"{path}: a Coordinate without a number in {name}")
    return value


def _read_geojson(path: Path) -> BaseGeometry:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refused)
        one = isinstance(raw, dict) and raw.get("type") == "Feature"
        features = [raw] if one else raw["features"] if isinstance(raw, dict) else raw
        # A feature without a place is legal GeoJSON.
        shapes = [shape(feature["geometry"]) for feature in features if feature["geometry"] is not None]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ShapelyError) as error:
        raise FormatError(f"{path}: not GeoJSON with polygons: {error}") from None
    return unary_union([make_valid(geometry) for geometry in shapes])


def _refused(constant: str) -> float:
    raise ValueError(f"a coordinate is {constant}")


def _polygons(geometry: BaseGeometry) -> MultiPolygon:
    parts = getattr(geometry, "geoms", [geometry])
    flat = [q for part in parts for q in getattr(part, "geoms", [part])]
    return MultiPolygon([part for part in flat if isinstance(part, Polygon) and not part.is_empty])


def feature(geometry: BaseGeometry, properties: dict[str, Any]) -> dict[str, Any]:
    """One GeoJSON feature as QuPath reads it."""
    return {"type": "Feature", "geometry": mapping(geometry), "properties": properties}


def write_geojson(path: Path, features: Iterable[dict[str, Any]]) -> None:
    """Write features as a GeoJSON FeatureCollection, whole or not at all."""
    write_text(path, json.dumps({"type": "FeatureCollection", "features": list(features)}, allow_nan=False))
