"""Annotations as XML: of ASAP, ImageScope and HALO."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from mil.errors import FormatError
from mil.io.annotations.classes import Names, cut_from, meaningful
from mil.io.annotations.objects import (
    LARGEST_CORNERS,
    TOO_MANY,
    Content,
    Drawn,
    Ring,
    ellipse,
    fault_of,
    label_of,
    rectangle,
)

DEEPEST = 100
# Groups around a group; they may name each other in a circle.
MOST_GROUPS = 10
# Memory that a region takes besides its corners, in corners.
CORNERS_OF_REGION = 5
# Kinds of annotations that have no area: of ASAP, of ImageScope by number, and of HALO.
NO_AREA = {
    **{"dot": "Dot", "pointset": "PointSet", "measurement": "Measurement"},
    **{"3": "arrow", "4": "ruler", "arrow": "arrow", "ruler": "ruler", "line": "line"},
    **{"pin": "pin", "point": "point", "points": "points", "polyline": "line", "open": "line"},
}
RECTANGLE = ("1", "rectangle", "square", "box")
ELLIPSE = ("2", "ellipse", "circle")
VERTICES = ("Coordinate", "Vertex", "V")
Attributes = Mapping[str, str]


def read_xml(path: Path) -> Content:
    """Content of a file of ASAP, ImageScope or HALO.

    Raises:
        FormatError: The file is none of them.
    """
    reader = _Reader()
    try:
        parser = DefusedXMLParser(target=reader)
        raw = path.read_bytes()
        # An element may have an end of its own.
        if raw.count(b"<") > 2 * LARGEST_CORNERS:
            raise ValueError(TOO_MANY)
        # At once: parts of a long name or value would be read again and again.
        parser.feed(raw)
        parser.close()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise FormatError(f"{path}: no annotation of ASAP, ImageScope or HALO: {error}") from None
    if not reader.is_annotation:
        raise FormatError(
            f"{path}: no annotation of ASAP, ImageScope or HALO: its root is "
            f"<{reader.root[:80]}>, not <ASAP_Annotations> or <Annotations>"
        )
    return reader.content()


class _Region:
    """An annotation of ASAP, or a region of ImageScope or HALO, while it is read."""

    def __init__(self, number: int, names: tuple[str, ...], attributes: Attributes) -> None:
        self.number = number
        self.names = names
        self.attributes = attributes
        self.vertices: list[tuple[float, float, float]] = []

    @property
    def shape(self) -> str:
        # ImageScope states a shape besides the number of the tool.
        stated = self.attributes.get("GeoShape", "").lower()
        known = (*RECTANGLE, *ELLIPSE, *NO_AREA)
        if stated in known and stated != "points":
            return stated
        return self.attributes.get("Type", "").lower()

    @property
    def corners(self) -> Ring:
        """Positions in the order of drawing, which ASAP states."""
        return np.array([(x, y) for _, x, y in sorted(self.vertices)]).reshape(-1, 2)


class _Reader:
    """Target of the parser: takes regions as they come, so that no tree is built."""

    def __init__(self) -> None:
        self.root = ""
        self.is_annotation = False
        self.depth = 0
        self.layer: list[str] = []
        self.region: _Region | None = None
        self.regions: list[_Region] = []
        self.parents: dict[str, str] = {}
        self.left = LARGEST_CORNERS

    def start(self, name: str, attributes: Attributes) -> None:
        """Begin an element."""
        self.depth += 1
        # First, for most elements are these.
        if name in VERTICES and self.region is not None:
            self._add_vertex(attributes)
            return
        if self.depth > DEEPEST:
            raise ValueError(f"its elements are nested deeper than {DEEPEST}")
        tag = name.rpartition("}")[2]
        self.root = self.root or tag
        asap = self.root == "ASAP_Annotations"
        if asap:
            self.is_annotation = True
        if tag == "Annotation":
            self.is_annotation |= self.root == "Annotations"
            self.layer = [attributes.get("PartOfGroup" if asap else "Name", "")]
        if tag == ("Annotation" if asap else "Region"):
            if self.region is not None:
                raise ValueError(f"a <{tag}> inside another")
            self._spend(CORNERS_OF_REGION)
            self.region = _Region(len(self.regions) + 1, self._names(asap, attributes), attributes)
        elif tag == "Group":
            self._spend(CORNERS_OF_REGION)
            self.parents[attributes.get("Name", "")] = attributes.get("PartOfGroup", "")
        elif tag == "Attribute" and self.region is None and not any(self.layer):
            # ImageScope shows this as the name of a layer.
            if attributes.get("Name") == "Description":
                self.layer = [attributes.get("Value", "")]
        elif tag in VERTICES and self.region is not None:
            self._add_vertex(attributes)

    def _add_vertex(self, attributes: Attributes) -> None:
        assert self.region is not None
        self._spend(1)
        vertices = self.region.vertices
        order = _number(attributes["Order"]) if "Order" in attributes else math.nan
        place = len(vertices) if math.isnan(order) else order
        vertices.append((place, _number(attributes.get("X", "")), _number(attributes.get("Y", ""))))

    def end(self, name: str) -> None:
        """End an element."""
        self.depth -= 1
        tag = name.rpartition("}")[2]
        if self.region is not None and tag in ("Annotation", "Region"):
            self.regions.append(self.region)
            self.region = None

    def data(self, text: str) -> None:
        """Text says nothing."""

    def close(self) -> None:
        """End the file."""

    def _spend(self, corners: int) -> None:
        self.left -= corners
        if self.left < 0:
            raise ValueError(TOO_MANY)

    def content(self) -> Content:
        """Regions with their groups, which ASAP lists after them."""
        content = Content()
        for region in self.regions:
            _add(content, region, self._class_of(region))
        return content

    def _names(self, asap: bool, attributes: Attributes) -> tuple[str, ...]:
        text = "" if asap else attributes.get("Text", "")
        # With a number in it, the text of ImageScope's region is a measure or a remark.
        is_class = any(map(str.isalpha, text)) and not any(map(str.isdigit, text))
        return (*self.layer, *([text] if is_class else []))

    def _class_of(self, region: _Region) -> Names:
        """Class of a region, outermost group first."""
        # A region outside every layer has no name.
        innermost, *rest = region.names or ("",)
        groups = [innermost]
        while self.parents.get(groups[0]) and len(groups) < MOST_GROUPS:
            groups.insert(0, self.parents[groups[0]])
        return meaningful([*groups, *rest])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _add(content: Content, region: _Region, names: Names) -> None:
    shape = region.shape
    if shape in NO_AREA:
        content.add_without_area(NO_AREA[shape], names)
        return
    label = label_of(region.number, names)
    corners = region.corners
    if not len(corners):
        content.add_without_area("region without corners", names)
        return
    ring = corners
    if shape in RECTANGLE and len(corners) == 2 and np.isfinite(corners).all():
        ring = rectangle(corners)
    # Two corners around it, or the four ends of its axes.
    if shape in ELLIPSE and len(corners) in (2, 4) and np.isfinite(corners).all():
        ring = ellipse(corners)
    fault = fault_of(ring)
    if fault:
        content.faults.append(f"{label}: its outline {fault}")
        return
    cut = cut_from(names)
    if cut is None and region.attributes.get("NegativeROA") == "1":
        cut = names
    content.add(Drawn(label, names, cut, [[ring]]))
