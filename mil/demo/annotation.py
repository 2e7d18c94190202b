"""The outline of the tumour as ASAP XML, in the dialect of CAMELYON16."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon
from skimage import measure

from mil.demo.plan import DemoSlide
from mil.demo.tissue import STEP_UM, Layout, lay_out

_COLOUR = "#F4FA58"
_GROUP = "Tumor"
# Largest distance of a simplified outline from the exact one, um.
_TOLERANCE_UM = 0.5


def tumour_outlines(slide: DemoSlide, layout: Layout | None = None) -> list[NDArray[np.float64]]:
    """Closed outlines of the tumour, largest first; none of them has a hole.

    Args:
        slide: the slide.
        layout: layout of the slide; None: it is made here.

    Returns:
        Arrays [n, 2] of (x, y) in level-0 px, last point equal to the first.
    """
    field = (layout or lay_out(slide)).tumour_um
    contours = measure.find_contours(field, 0.0)  # type: ignore[no-untyped-call]
    # Contours are (row, column); outlines are (x, y).
    rings = [Polygon(contour[:, ::-1] * STEP_UM).simplify(_TOLERANCE_UM) for contour in contours]
    rings.sort(key=lambda ring: -ring.area)
    return [np.asarray(ring.exterior.coords) / slide.mpp for ring in rings]


def write_annotation(path: Path, slide: DemoSlide) -> None:
    """Write a slide's outlines; a normal slide gets a file with none."""
    root = ElementTree.Element("ASAP_Annotations")
    parent = ElementTree.SubElement(root, "Annotations")
    for index, outline in enumerate(tumour_outlines(slide)):
        attributes = {
            "Name": f"Annotation {index}",
            "Type": "Polygon",
            "PartOfGroup": _GROUP,
            "Color": _COLOUR,
        }
        node = ElementTree.SubElement(parent, "Annotation", attributes)
        coordinates = ElementTree.SubElement(node, "Coordinates")
        # ASAP closes polygons itself.
        for order, (x, y) in enumerate(outline[:-1]):
            position = {"Order": str(order), "X": f"{x:.2f}", "Y": f"{y:.2f}"}
            ElementTree.SubElement(coordinates, "Coordinate", position)
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    group = ElementTree.SubElement(groups, "Group", Name=_GROUP, PartOfGroup="None", Color=_COLOUR)
    ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root, "\t")
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
