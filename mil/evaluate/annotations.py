"""Annotated share of each tile, and notes on annotations that do not count."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from shapely import MultiPolygon

from mil.config import DatasetConfig
from mil.config.datasets import GeojsonFrame
from mil.evaluate.localise import ANNOTATED, share_annotated
from mil.evaluate.rows import AttendedSlide
from mil.io.annotations import Annotation, PositiveClasses, few, read_annotation
from mil.io.annotations.classes import class_name
from mil.io.bags import BagPositions, read_positions
from mil.io.tables import Slide
from mil.io.tables.paths import locate_annotation
from mil.tasks import Task

INCOMPLETE = "its annotation is not exhaustive (`incomplete_annotations` of the dataset's yaml)"


class AnnotatedSlide(NamedTuple):
    """Tiles of a slide and its annotated regions.

    Attributes:
        slide: Its name.
        file: Annotation file.
        corners: Top left corners of the valid tiles, level-0 pixels.
        side_px: Side of a tile, level-0 pixels.
        mpp: Micrometres per pixel of level 0; None: not known.
        regions: Positive region, level-0 pixels; empty where nothing is annotated.
        share: Annotated share of each tile, 0..1.
    """

    slide: str
    file: Path
    corners: Int[np.ndarray, "tiles 2"]
    side_px: float
    mpp: float | None
    regions: MultiPolygon
    share: Float[np.ndarray, " tiles"]


@dataclass
class SlideAnnotations:
    """Annotation files of the slides, and what was noted when they were read.

    Attributes:
        files: Annotation file by slide; only slides that have one.
        frame: Origin of GeoJSON coordinates.
        rule: Rule by which classes are the positive region.
        faults: Notes on outlines that are left out as damaged.
        left_out: Number of slides by class that does not count.
        counted: The classes that count.
        unusable: Reason why a slide or bag has no annotated tiles, by name.
        unknown: Slides of `incomplete_annotations` that the slide table lacks.
    """

    files: dict[str, Path]
    frame: GeojsonFrame
    rule: PositiveClasses
    faults: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    unusable: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def locate(
        cls, settings: DatasetConfig, slides: Sequence[Slide], slides_dir: Path | None
    ) -> "SlideAnnotations":
        """The annotation files that exist.

        Args:
            settings: The dataset.
            slides: Its slide table.
            slides_dir: Folder in which annotations are looked for; None: none is used.
        """
        located = cls({}, settings.geojson_frame, positive_rule(settings))
        if slides_dir is None:
            return located
        incomplete = set(settings.incomplete_annotations)
        located.unknown = sorted(incomplete.difference(slide.slide for slide in slides))
        for slide in slides:
            path = locate_annotation(slide, slides_dir, settings)
            # What is not outlined would count as other tissue, and as false detections.
            if slide.slide in incomplete:
                located.unusable[slide.slide] = INCOMPLETE
            elif path is not None and path.exists():
                located.files[slide.slide] = path
            elif path is not None:
                located.unusable[slide.slide] = f"there is no file {path}"
        return located

    def annotated(
        self, bags_dir: Path, name: str, slides: Sequence[str]
    ) -> list[AnnotatedSlide] | None:
        """Each slide of a bag with its regions; None unless all of them are annotated.

        Args:
            bags_dir: Folder of the bags of slides.
            name: Name of the bag.
            slides: Its slides.
        """
        annotated = [slide for slide in slides if slide in self.files]
        # A bag that is annotated in part would count tumour as other tissue.
        if len(annotated) < len(slides):
            if annotated:
                self.unusable[name] = "not all slides of the patient are annotated"
            return None
        of_bag = []
        for slide in slides:
            of_slide = self.annotated_slide(slide, read_positions(bags_dir / f"{slide}.h5"))
            if of_slide is None:
                self.unusable[name] = self.unusable[slide]
                return None
            of_bag.append(of_slide)
        return of_bag

    def share_of(
        self, name: str, annotated: Sequence[AnnotatedSlide] | None
    ) -> Float[np.ndarray, " tiles"] | None:
        """Annotated share of each valid tile of a bag, 0..1; None: not known.

        Args:
            name: Name of the bag.
            annotated: Its slides with their regions; None: not all are annotated.
        """
        if annotated is None:
            return None
        of_bag = np.concatenate([slide.share for slide in annotated])
        if not (of_bag >= ANNOTATED).any():
            self.unusable[name] = "no tile lies at least half inside its positive region"
        elif of_bag.all():
            self.unusable[name] = "no tile lies outside its positive region"
        return of_bag

    def annotated_slide(self, slide: str, bag: BagPositions) -> AnnotatedSlide | None:
        """Tiles and regions of a slide that has an annotation file; None: it cannot be used."""
        places = bag.positions()
        if places is None:
            self.unusable[slide] = "its bag has no positions of tiles in pixels"
            return None
        file = self.files[slide]
        annotation = read_annotation(file, bag.origin_px if self.frame == "scanned" else (0, 0))
        self._note(slide, annotation)
        regions = annotation.positive(self.rule)
        # An empty file says that nothing is annotated; one with other content does not.
        if regions.is_empty and annotation.content != "nothing":
            self.unusable[slide] = f"{file} holds {annotation.content}"
            return None
        share = share_annotated(*places, regions)
        return AnnotatedSlide(slide, file, *places, bag.mpp_level0, regions, share)

    def _note(self, slide: str, annotation: Annotation) -> None:
        positive = set(self.rule.of(annotation.classes))
        for names in dict.fromkeys(annotation.classes):
            counts = self.counted if names in positive else self.left_out
            counts[class_name(names)] += 1
        if annotation.faults:
            self.faults.append(f"{slide} ({annotation.path.name}): {few(annotation.faults)}")

    def notes(self, task: Task, attended: Sequence[AttendedSlide]) -> list[str]:
        """Sentences on annotations that do not count, and why; empty where all do.

        Args:
            task: Task of the heads.
            attended: Test slides under the attention of their heads.
        """
        notes = []
        if self.left_out:
            counted = few(list(self.counted)) or "none"
            left_out = [f"{name} ({_slides(n)})" for name, n in self.left_out.most_common()]
            notes.append(
                f"Annotation classes of the positive region: {counted}. Classes that do not "
                f"count: {few(left_out)}. The key `annotation_classes` of the dataset's yaml "
                "chooses others."
            )
        if self.unknown:
            notes.append(
                f"The key `incomplete_annotations` names slides that the slide table lacks: "
                f"{few(self.unknown)}."
            )
        if self.faults:
            notes.append(f"Outlines left out of annotations: {'; '.join(_first(self.faults))}.")
        to_find = [slide for slide in attended if task.attends_to_annotations(slide.label)]
        lost = [slide.slide for slide in to_find if slide.slide in self.unusable]
        lacking = [f"{name}: {self.unusable[name]}" for name in sorted(lost)]
        if lacking:
            notes.append(
                f"Annotated test slides without tile AUROC ({len(lacking)} of {len(to_find)}): "
                f"{'; '.join(_first(lacking))}."
            )
        elif self.files and all(slide.tile_auroc is None for slide in to_find):
            notes.append(
                f"No tile AUROC: none of the {len(to_find)} test slides with a region to be found "
                f"is annotated; {_slides(len(self.files))} of the dataset "
                f"{'is' if len(self.files) == 1 else 'are'}."
            )
        return notes


def positive_rule(settings: DatasetConfig) -> PositiveClasses:
    """The dataset's rule for the classes of annotations that are its positive region."""
    return PositiveClasses(tuple(settings.annotation_classes), settings.positive_class)


def _slides(count: int) -> str:
    return "1 slide" if count == 1 else f"{count} slides"


def _first(parts: Sequence[str]) -> list[str]:
    more = [f"and {len(parts) - 3} more"] if len(parts) > 3 else []
    return [*parts[:3], *more]
