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
_TOLERANCE_UM = 0.5


def tumour_outlines(slide: DemoSlide, layout: Layout | None = None) -> list[NDArray[np.float64]]:
    """Closed outlines of the tumour, largest first; none of them has a hole.

    Args:
        slide: the slide.
        layout: its layout, where it is already known.

    Returns:
        Arrays [n, 2] of (x, y) in level-0 px, last point equal to the first.
    """
    field = (layout or lay_out(slide)).tumour_um
    outlines = []
    for contour in measure.find_contours(field, 0.0):  # type: ignore[no-untyped-call]
        ring = Polygon(contour[:, ::-1] * STEP_UM).simplify(_TOLERANCE_UM)
        outlines.append((ring.area, np.asarray(ring.exterior.coords) / slide.mpp))
    return [outline for _, outline in sorted(outlines, key=lambda item: -item[0])]


def write_annotation(path: Path, slide: DemoSlide) -> None:
    """Write a slide's outlines; a normal slide gets a file with none."""
    root = ElementTree.Element("ASAP_Annotations")
    parent = ElementTree.SubElement(root, "Annotations")
    for index, outline in enumerate(tumour_outlines(slide)):
        facts = {
            "Name": f"Annotation {index}",
            "Type": "Polygon",
            "PartOfGroup": "Tumor",
            "Color": _COLOUR,
        }
        node = ElementTree.SubElement(parent, "Annotation", facts)
        coordinates = ElementTree.SubElement(node, "Coordinates")
        for order, (x, y) in enumerate(outline[:-1]):
            ElementTree.SubElement(
                coordinates, "Coordinate", Order=str(order), X=f"{x:.2f}", Y=f"{y:.2f}"
            )
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    group = ElementTree.SubElement(groups, "Group", Name="Tumor", PartOfGroup="None", Color=_COLOUR)
    ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root, "\t")
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
