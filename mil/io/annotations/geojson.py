"""Annotations as GeoJSON, as QuPath and others write it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue
from shapely.affinity import translate
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from mil.errors import FormatError
from mil.io.annotations.classes import Names, cut_from, meaningful
from mil.io.annotations.objects import (
    TOO_MANY,
    Content,
    Drawn,
    Rings,
    ellipse,
    fault_of,
    label_of,
)
from mil.io.atomic import write_text

NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
# Collections inside collections.
DEEPEST = 100
# Lists, objects and values of a file; parsed, they take up to 90 and 40 bytes each.
MOST_BRACKETS = 1_000_000
MOST_VALUES = 5_000_000
# Errors of a value of another structure.
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
# Keys in which other tools than QuPath name the class.
CLASS_KEYS = ("classification", "class", "label", "category")


def read_geojson(path: Path) -> Content:
    """Content of a file of GeoJSON.

    Raises:
        FormatError: The file is none.
    """
    try:
        raw = path.read_bytes()
        if raw.count(b"[") + raw.count(b"{") > MOST_BRACKETS or raw.count(b",") > MOST_VALUES:
            raise ValueError(TOO_MANY)
        features = _features(json.loads(raw))
    except (OSError, *DAMAGE) as error:
        raise FormatError(f"{path}: not GeoJSON with polygons: {_reason(error)}") from None
    content = Content()
    try:
        for number, item in enumerate(features, 1):
            _add(content, number, item)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None
    return content


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    # Another structure, which Python's words would not explain.
    if isinstance(error, LookupError | TypeError | AttributeError):
        return "it holds neither features nor geometries"
    return str(error)


def _features(raw: Any) -> list[Any]:
    """The features of a list, a feature, a geometry or a collection of either."""
    if isinstance(raw, list):
        return raw
    if raw.get("type") == "Feature":
        return [raw]
    if "coordinates" in raw or "geometries" in raw:
        return [{"geometry": raw}]
    features = raw["features"]
    if not isinstance(features, list):
        raise TypeError
    return features


def _add(content: Content, number: int, item: Any) -> None:
    """Add what a feature holds, and name what cannot be used."""
    if not isinstance(item, dict) or "geometry" not in item:
        content.faults.append(f"object {number}: it is no feature with a geometry")
        return
    try:
        names = _class_of(item)
    except DAMAGE:
        names = ()
    label = label_of(number, names)
    polygons: list[Rings] = []
    geometries = [(item["geometry"], 0)]
    while geometries:
        geometry, depth = geometries.pop()
        try:
            if depth > DEEPEST:
                raise ValueError(f"it has collections nested deeper than {DEEPEST}")
            # A feature without a geometry is legal GeoJSON.
            kind = "object without geometry" if geometry is None else geometry["type"]
            if kind == "GeometryCollection":
                geometries += [(inner, depth + 1) for inner in geometry["geometries"]]
            elif kind in ("Polygon", "MultiPolygon"):
                coordinates = geometry["coordinates"]
                parts = coordinates if kind == "MultiPolygon" else [coordinates]
                rings, faults = _polygons(parts, is_ellipse=geometry.get("isEllipse") is True)
                polygons += rings
                content.faults += [f"{label}: {fault}" for fault in faults]
                if not parts or not any(parts):
                    content.add_without_area(f"empty {kind}", names)
            elif geometry is None or kind in NO_AREA:
                content.add_without_area(kind, names)
            else:
                raise ValueError(f"it has a geometry of type {str(kind)[:40]!r}")
        except DAMAGE as error:
            fault_text = (
                str(error) if isinstance(error, ValueError) else "it has a geometry without content"
            )
            content.faults.append(f"{label}: {fault_text}")
    if polygons:
        content.add(Drawn(label, names, cut_from(names), polygons))


def _polygons(parts: Any, *, is_ellipse: bool) -> tuple[list[Rings], list[str]]:
    """Polygons of a geometry, and reasons why others, or holes of them, are left out."""
    polygons: list[Rings] = []
    faults = []
    for part in parts:
        rings: Rings = []
        for place, positions in enumerate(part):
            try:
                ring = np.array(positions, float)
            except DAMAGE:
                ring = np.empty(0)
            fault = fault_of(ring)
            if is_ellipse and not fault and len(np.unique(ring[:, :2], axis=0)) == 4:
                ring = ellipse(ring[:, :2])
            if not fault:
                rings.append(ring[:, :2])
                continue
            faults.append(f"its {'hole' if place else 'outline'} {fault}")
            # Holes of nothing.
            if not place:
                break
        if rings:
            polygons.append(rings)
    return polygons, faults


def _class_of(item: Any) -> Names:
    """The class of a feature as QuPath writes it, the one it is derived from first.

    It is `name`, or `names` for a class that is derived from others.
    """
    properties = item.get("properties") or {}
    value = next((properties[key] for key in CLASS_KEYS if properties.get(key)), None)
    if isinstance(value, dict):
        value = value.get("names") or value.get("name")
    names = value if isinstance(value, list) else [value]
    texts = [name for name in names if isinstance(name, str)]
    # QuPath shows a derived class so, and others write it.
    return meaningful(part for text in texts for part in text.split(":"))


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
