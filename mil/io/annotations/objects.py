"""Objects of an annotation file as they were drawn, before any geometry is computed."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mil.io.annotations.classes import Names, class_name

# No slide reaches so far, level-0 pixels.
LARGEST_PX = 1e8
# Parsed and joined, a corner takes some hundred bytes and some microseconds.
LARGEST_CORNERS = 500_000
TOO_MANY = (
    f"it has more than {LARGEST_CORNERS // 1000} 000 corners, too many for regions of one "
    "slide; export it without cells, or simplify its regions"
)
# Segments of a ring that is drawn for an ellipse.
ELLIPSE_CORNERS = 128

Ring = Float[np.ndarray, "_ 2"]  # corners, level-0 pixels
Rings = list[Ring]  # of one polygon: its outline, then its holes


@dataclass(frozen=True)
class Drawn:
    """One object that has an area.

    Attributes:
        label: Number in the file and class, for messages.
        names: Its class, outermost group first; empty: none.
        cut_from: None: a region; else the class that it is cut out of, empty for all.
        polygons: Rings of each of its polygons.
    """

    label: str
    names: Names
    cut_from: Names | None
    polygons: list[Rings]

    @property
    def corners(self) -> int:
        """Number of corners of all rings."""
        return sum(len(ring) for rings in self.polygons for ring in rings)


@dataclass
class Content:
    """Content of an annotation file.

    Attributes:
        drawn: Objects with an area.
        no_area: Number of the others by kind, such as `LineString of class Tumor`.
        faults: Sentence about each object, or part of one, that is left out as damaged.
        corners: Number of corners of all objects.
    """

    drawn: list[Drawn] = field(default_factory=list)
    no_area: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    corners: int = 0

    def add(self, drawn: Drawn) -> None:
        """Add an object with an area.

        Raises:
            ValueError: The file has more corners than fit.
        """
        self.corners += drawn.corners
        if self.corners > LARGEST_CORNERS:
            raise ValueError(TOO_MANY)
        self.drawn.append(drawn)

    def add_without_area(self, kind: str, names: Names) -> None:
        """Count an object that has no area, such as a line."""
        self.no_area[f"{kind} of class {class_name(names)}" if names else kind] += 1


def label_of(number: int, names: Names) -> str:
    """Label of the object of this number, from 1: `object 3 (Tumor)`."""
    return f"object {number} ({class_name(names)})" if names else f"object {number}"


def fault_of(ring: np.ndarray) -> str:
    """Reason why positions are no ring; empty where they are."""
    if ring.ndim != 2 or ring.shape[1] < 2:
        return "is no list of (x, y)"
    # NaN is not smaller either.
    if not (np.abs(ring[:, :2]) <= LARGEST_PX).all():
        known = np.isfinite(ring[:, :2]).all()
        return f"has a coordinate that is {'on no slide' if known else 'no number'}"
    # Closed, a triangle has four positions.
    corners = len(set(map(tuple, ring[:, :2].tolist()))) if len(ring) < 5 else len(ring)
    if corners < 3:
        return f"has {corners} corner{'' if corners == 1 else 's'}, too few for an area"
    return ""


def rectangle(corners: np.ndarray) -> Ring:
    """Outline of the smallest upright rectangle around positions."""
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def ellipse(corners: np.ndarray) -> Ring:
    """Outline of the upright ellipse that fills the smallest rectangle around positions."""
    low, high = corners.min(0), corners.max(0)
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    # A polygon of the ellipse's area: inscribed corners alone would make it smaller.
    step = 2 * np.pi / ELLIPSE_CORNERS
    radius = (high - low) / 2 * np.sqrt(step / np.sin(step))
    return (low + high) / 2 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
