"""An annotation file as classes with their areas."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from shapely import MultiPolygon
from shapely.affinity import translate

from mil.errors import FormatError
from mil.io.annotations.classes import Names, PositiveClasses, class_name
from mil.io.annotations.geojson import read_geojson
from mil.io.annotations.join import joined, polygons_of, repaired
from mil.io.annotations.objects import Content
from mil.io.annotations.xml import read_xml

READERS: dict[str, Callable[[Path], Content]] = {
    ".xml": read_xml,
    ".annotations": read_xml,
    ".geojson": read_geojson,
    ".json": read_geojson,
}
SUFFIXES = tuple(READERS)
# Outlines of a slide have a few MB.
LARGEST_BYTES = 100_000_000
# Faults, kinds or classes of a file that a message names.
SHOWN = 3


@dataclass(frozen=True)
class Region:
    """One object with an area.

    Attributes:
        names: Its class, outermost group first; empty: none.
        cut_from: None: a region; else the class that it is cut out of, empty for all.
        area: Its polygons, level-0 pixels of the whole slide.
    """

    names: Names
    cut_from: Names | None
    area: MultiPolygon


@dataclass(frozen=True)
class Annotation:
    """Content of an annotation file.

    Attributes:
        path: The file.
        regions: Its objects with an area.
        no_area: Number of its objects without one, by kind and class.
        faults: Sentence about each object, or part of one, that is left out as damaged.
    """

    path: Path
    regions: Sequence[Region]
    no_area: Counter[str]
    faults: Sequence[str]

    @property
    def classes(self) -> list[Names]:
        """Class of each region that is cut out of no other."""
        return [region.names for region in self.regions if region.cut_from is None]

    def area_of(self, classes: Collection[Names], without: Collection[Names] = ()) -> MultiPolygon:
        """Area of some classes, without what is cut out of them, level-0 pixels.

        Args:
            classes: Classes that count.
            without: Classes whose regions are cut out of the larger ones that count.

        Raises:
            FormatError: The regions are too complicated to be joined.
        """
        areas: dict[Names, list[MultiPolygon]] = {}
        holes: dict[Names, list[MultiPolygon]] = {}
        for region in self.regions:
            by_class = areas if region.cut_from is None else holes
            names = region.names if region.cut_from is None else region.cut_from
            by_class.setdefault(names, []).append(region.area)
        inner = [area for names in without for area in areas.get(names, [])]
        # Where a class has no region to be cut out of, its holes are cut out of all.
        of_all = [
            area for names in holes if not names or names not in areas for area in holes[names]
        ]
        parts: list[MultiPolygon] = []
        for names in (names for names in areas if names in classes):
            largest = max(area.area for area in areas[names])
            own = [area for area in inner if area.area < largest]
            own += holes.get(names, []) if names else []
            parts += [joined(self.path, areas[names], own)] if own else areas[names]
        return joined(self.path, parts, of_all)

    def outlines(self) -> MultiPolygon:
        """Polygons of all objects as they are, to be drawn; they may overlap."""
        return polygons_of([region.area for region in self.regions])

    def everything(self) -> MultiPolygon:
        """Area of all classes, level-0 pixels; see `area_of`."""
        return self.area_of(set(self.classes))

    def positive(self, rule: PositiveClasses) -> MultiPolygon:
        """Area of the positive region, level-0 pixels; see `area_of`."""
        return self.area_of(rule.of(self.classes), rule.inside(self.classes))

    @property
    def content(self) -> str:
        """What the file holds in words: `2 regions of class Tumor, 1 LineString`."""
        counts = Counter(self.classes)
        parts = []
        for names, count in counts.items():
            regions = "1 region" if count == 1 else f"{count} regions"
            parts.append(f"{regions} of class {class_name(names)}" if names else regions)
        parts += [f"{count} {kind}" for kind, count in self.no_area.items()]
        cut_out = sum(region.cut_from is not None for region in self.regions)
        parts += [f"{cut_out} cut out"] if cut_out else []
        if self.faults:
            parts.append(f"{len(self.faults)} left out ({few(self.faults)})")
        return few(parts) or "nothing"


def few(parts: Sequence[str]) -> str:
    """The first parts, and the number of the others."""
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more


def read_annotation(path: Path, origin_px: tuple[int, int] = (0, 0)) -> Annotation:
    """Regions of an annotation file, by class; self-crossing outlines are repaired.

    Objects that are damaged, or have no area, are left out and named.

    Args:
        path: .xml or .annotations of ASAP, ImageScope or HALO, or .geojson.
        origin_px: corner that GeoJSON counts from, level-0 pixels; (0, 0): that of the
            whole slide.

    Raises:
        FormatError: the file is neither XML of these, nor GeoJSON, or it is too large or
            complicated.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise FormatError(
            f"{path}: an annotation is one of {', '.join(SUFFIXES)}, not {path.suffix or 'this'}"
        )
    _check_size(path)
    content = READERS[suffix](path)
    areas, faults = repaired(path, content.drawn)
    if any(origin_px) and READERS[suffix] is read_geojson:
        areas = [translate(area, *origin_px) for area in areas]
    regions = [
        Region(item.names, item.cut_from, area)
        for item, area in zip(content.drawn, areas, strict=True)
        if area.geoms
    ]
    return Annotation(path, regions, content.no_area, [*content.faults, *faults])


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise FormatError(f"{path}: cannot be read: not a file")
    if size > LARGEST_BYTES:
        raise FormatError(
            f"{path}: {size / 1e6:.0f} MB are too much for outlines of one slide; at most "
            f"{LARGEST_BYTES / 1e6:.0f} MB. Export its regions without cells, or simplify them"
        )
