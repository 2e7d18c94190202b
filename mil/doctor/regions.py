"""Inspect the annotation and the masks of a slide: what they hold, and where they lie."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from shapely import MultiPolygon, box
from shapely.affinity import affine_transform

from mil.config.datasets import GeojsonFrame
from mil.doctor.findings import RegionFinding
from mil.errors import FormatError
from mil.io.annotations import Annotation, PositiveClasses, few, read_annotation
from mil.io.annotations.classes import class_name
from mil.io.regions import OUTLINES, rasterise
from mil.io.slides import SlideReader
from mil.tile.plan import TilePlan, UserMasks

# Share of outlined area on tissue below which another scale or frame is looked for, and
# that such a one must reach.
DOUBTFUL = 0.25
CONVINCING = 0.6
# Share of outlined area beside the slide that is no rounding of its border.
BESIDE = 0.01


@dataclass(frozen=True)
class OutlineFiles:
    """The files of a slide's outlines, and how they are read.

    Attributes:
        annotation: The annotation; None: the slide has none.
        masks: The user's masks.
        frame: Origin of GeoJSON coordinates.
        rule: Rule by which classes of the annotation are the positive region.
    """

    annotation: Path | None = None
    masks: UserMasks = UserMasks()  # noqa: RUF009  an immutable tuple
    frame: GeojsonFrame = "scanned"
    rule: PositiveClasses = PositiveClasses()  # noqa: RUF009  an immutable tuple


@dataclass(frozen=True)
class _Slide:
    """What outlines are held against; the plan is None where tissue was not detected."""

    reader: SlideReader
    mpp: float
    plan: TilePlan | None

    def share_on_slide(self, area: MultiPolygon) -> float:
        """Share of an area on the scanned part of the slide."""
        left, top = self.reader.origin_px
        width, height = self.reader.extent_px
        on_slide = area.intersection(box(left, top, left + width, top + height))
        return float(on_slide.area / area.area)

    def share_inside(self, area: MultiPolygon) -> float:
        """Share of an area on detected tissue; on the slide, where none was detected."""
        if self.plan is None:
            return self.share_on_slide(area)
        tissue = self.plan.detected.tissue
        scale = self.plan.mask_scale
        inside = rasterise(area, self.reader.origin_px, (scale, scale), tissue.shape)
        return min(1.0, float((inside & tissue).sum()) * scale**2 / area.area)


def inspect_regions(
    files: OutlineFiles, reader: SlideReader, mpp: float, plan: TilePlan | None
) -> list[RegionFinding]:
    """Findings on the annotation and the masks of a slide.

    Args:
        files: The files.
        reader: The open slide.
        mpp: Micrometres per pixel of level 0.
        plan: Tissue and tiles; None: not detected.
    """
    slide = _Slide(reader, mpp, plan)
    findings = []
    if files.annotation is not None:
        findings.append(_inspect("annotation", files.annotation, files, slide))
    for kind in ("tissue", "region"):
        path = getattr(files.masks, kind)
        if path is not None and path.suffix.lower() in OUTLINES:
            findings.append(_inspect(kind, path, files, slide))
        elif path is not None and plan is not None:
            findings.append(_image(kind, path, mpp, plan))
    return findings


def _inspect(kind: str, path: Path, files: OutlineFiles, slide: _Slide) -> RegionFinding:
    """Findings on a file of outlines."""
    noun = "annotation" if kind == "annotation" else f"mask of {kind}"
    name = f"{noun} {path}"
    origin = slide.reader.origin_px if files.frame == "scanned" else (0, 0)
    try:
        annotation = read_annotation(path, origin)
        if kind == "annotation":
            chosen = files.rule.of(annotation.classes)
            area = annotation.positive(files.rule)
        else:
            chosen = annotation.classes
            area = annotation.everything()
    except FormatError as error:
        return RegionFinding(
            kind, str(path), warnings=[f"{noun} {error}"], is_damaged=path.exists()
        )
    texts = []
    if annotation.faults:
        left = "" if annotation.regions else "; no region is left"
        texts.append(f"{name}: left out {few(annotation.faults)}{left}")
    texts += _about_classes(kind, name, annotation, any_chosen=bool(chosen))
    if not area.is_empty:
        texts += [f"{name}: {text}" for text in _about_place(area, slide)]
    return RegionFinding(
        kind,
        str(path),
        classes=dict(Counter(map(class_name, annotation.classes))),
        counted=[class_name(names) for names in dict.fromkeys(chosen)],
        area_mm2=area.area * (slide.mpp / 1000) ** 2,
        warnings=texts,
    )


def _about_classes(
    kind: str, name: str, annotation: Annotation, *, any_chosen: bool
) -> Iterator[str]:
    if not annotation.regions:
        # An empty mask is a state of the slide; an empty annotation says: nothing here.
        if kind == "annotation" and annotation.no_area:
            yield f"{name}: no area is outlined; it holds {annotation.content}"
    elif not any_chosen:
        yield (
            f"{name}: no class is named like the positive region; it holds {annotation.content}; "
            "name its classes in `annotation_classes` of the dataset's yaml"
        )
    elif kind != "annotation" and len(set(annotation.classes)) > 1:
        classes = [class_name(names) for names in dict.fromkeys(annotation.classes)]
        yield f"{name}: regions of all its classes count: {few(classes)}"


def _about_place(area: MultiPolygon, slide: _Slide) -> Iterator[str]:
    """Sentences about regions beside the slide, or on glass."""
    on_slide = slide.share_on_slide(area)
    share = slide.share_inside(area)
    hint = _other_frame(area, slide) if min(share, on_slide) < DOUBTFUL else ""
    if on_slide == 0:
        yield f"its regions lie beside the slide{hint}"
    elif on_slide < 1 - BESIDE:
        beside = f"{100 * (1 - on_slide):.0f} %"
        yield f"{beside} of its regions' area lies beside the slide{hint}"
    elif share < DOUBTFUL and slide.plan is not None:
        yield f"{100 * share:.0f} % of its regions' area lies on tissue{hint}"


def _other_frame(area: MultiPolygon, slide: _Slide) -> str:
    """End of a sentence on what else the coordinates may mean; empty: nothing fits better."""
    fits = [(slide.share_inside(moved), text) for text, moved in _other_frames(area, slide)]
    best, text = max(fits, default=(0.0, ""))
    return f"; they would lie on it {text}" if best >= CONVINCING else ""


def _other_frames(area: MultiPolygon, slide: _Slide) -> Iterator[tuple[str, MultiPolygon]]:
    """The area as it would be if its coordinates meant something else."""
    left, top = slide.reader.origin_px

    def scaled(factor: float) -> MultiPolygon:
        # About the corner that coordinates count from.
        shift = (left * (1 - factor), top * (1 - factor))
        return affine_transform(area, (factor, 0, 0, factor, *shift))

    yield "with x and y exchanged", affine_transform(area, (0, 1, 1, 0, left - top, top - left))
    for number, level in enumerate(slide.reader.levels[1:], 1):
        yield f"if they are in pixels of level {number}", scaled(level.downsample)
    yield "if they are in micrometres", scaled(1 / slide.mpp)
    if (left, top) != (0, 0):
        shifted = affine_transform(area, (1, 0, 0, 1, -left, -top))
        yield "with `geojson_frame: slide`", shifted
        yield "with `geojson_frame: scanned`", affine_transform(area, (1, 0, 0, 1, left, top))


def _image(kind: str, path: Path, mpp: float, plan: TilePlan) -> RegionFinding:
    """Findings on a mask that is an image, as far as tiles were planned with it."""
    mask: Bool[np.ndarray, "height width"] = plan.mask
    texts = []
    share = float((mask & plan.detected.tissue).sum()) / max(1, int(mask.sum()))
    if kind == "tissue" and share < DOUBTFUL:
        texts.append(f"mask of tissue {path}: {100 * share:.0f} % of it lies on detected tissue")
    area = float(mask.sum()) * (mpp * plan.mask_scale / 1000) ** 2
    return RegionFinding(kind, str(path), area_mm2=area, warnings=texts)
