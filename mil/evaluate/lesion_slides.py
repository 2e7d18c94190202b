"""Detections of tile maps in the lesions of test slides, and slides that do not count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mil.evaluate.annotations import AnnotatedSlide, SlideAnnotations
from mil.evaluate.detections import radius_um, suppressed_maxima
from mil.evaluate.lesions import NO_LESIONS, Lesions, lesion_at, lesions_of
from mil.io.bags import read_positions
from mil.io.bags.patients import FoldBag
from mil.statistics.froc import SlideFindings, slide_findings
from mil.tasks import Task

NO_SCALE = "its bag has no positions of tiles in pixels, or no micrometres per pixel"


class LesionSlide(NamedTuple):
    """A test slide with its lesions, and what the detections of each kind of map found."""

    slide: str
    patient: str
    sizes: list[str]
    target: Bool[np.ndarray, " lesions"]
    findings: dict[str, SlideFindings]


class _Places(NamedTuple):
    """Tiles of a slide and its lesions, both in level-0 pixels."""

    slide: str
    centres: Float[np.ndarray, "tiles 2"]
    side_px: float
    mpp: float
    lesions: Lesions


@dataclass
class LesionSlides:
    """Test slides for FROC.

    Attributes:
        annotations: Annotations of the slides.
        bags_dir: Folder of the bags of slides.
        slides: Slides that count.
        left_out: Reason why others do not, by slide or bag.
    """

    annotations: SlideAnnotations
    bags_dir: Path
    slides: list[LesionSlide] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        bag: FoldBag,
        scores: Mapping[str, Float[np.ndarray, " tiles"]],
        annotated: Sequence[AnnotatedSlide] | None,
        task: Task,
    ) -> None:
        """Add a test bag, slide by slide; nothing where no slide is annotated.

        Args:
            bag: The bag in its fold.
            scores: Score of each tile as a detection, by kind of map; -inf: it is none.
            annotated: Its slides with their regions; None: not all are annotated.
            task: Task of the heads.
        """
        if not self.annotations.files:
            return
        if task.attends_to_annotations(bag.label):
            places = self._with_lesions(bag, annotated)
        else:
            places = self._without_lesions(bag, annotated)
        if isinstance(places, str):
            self.left_out[bag.name] = places
            return
        tiles = sum(len(one.centres) for one in places)
        if any(len(values) != tiles for values in scores.values()):
            self.left_out[bag.name] = f"its scores are not of the {tiles} tiles of its bag"
            return
        start = 0
        for one in places:
            end = start + len(one.centres)
            of_slide = {kind: values[start:end] for kind, values in scores.items()}
            self.slides.append(_lesion_slide(bag, one, of_slide))
            start = end

    def _with_lesions(
        self, bag: FoldBag, annotated: Sequence[AnnotatedSlide] | None
    ) -> list[_Places] | str:
        """Slides with their lesions, or why the bag does not count."""
        if annotated is None:
            reasons = [
                self.annotations.unusable[name]
                for name in (bag.name, *bag.slides)
                if name in self.annotations.unusable
            ]
            return reasons[0] if reasons else "it has no annotation"
        if all(slide.regions.is_empty for slide in annotated):
            return "its annotation outlines nothing"
        places = []
        for slide in annotated:
            if not slide.mpp:
                return NO_SCALE
            lesions = lesions_of(slide.file, slide.regions, slide.mpp)
            centres = slide.corners + slide.side_px / 2
            places.append(_Places(slide.slide, centres, slide.side_px, slide.mpp, lesions))
        return places

    def _without_lesions(
        self, bag: FoldBag, annotated: Sequence[AnnotatedSlide] | None
    ) -> list[_Places] | str:
        """Slides of which every detection is false, or why the bag does not count."""
        # Such as tumour outlined on slides whose label is about something else.
        if annotated is not None and any(not slide.regions.is_empty for slide in annotated):
            return f"its label is {bag.label}, but its annotation outlines a positive region"
        places = []
        for name in bag.slides:
            positions = read_positions(self.bags_dir / f"{name}.h5")
            of_tiles = positions.positions()
            if of_tiles is None or not positions.mpp_level0:
                return NO_SCALE
            corners, side_px = of_tiles
            centres = corners + side_px / 2
            places.append(_Places(name, centres, side_px, positions.mpp_level0, NO_LESIONS))
        return places


def _lesion_slide(
    bag: FoldBag, places: _Places, scores: Mapping[str, Float[np.ndarray, " tiles"]]
) -> LesionSlide:
    radius_px = radius_um(places.side_px * places.mpp) / places.mpp
    findings = {}
    for kind, values in scores.items():
        tiles = suppressed_maxima(places.centres, values, radius_px)
        lesion = lesion_at(places.lesions, places.centres[tiles])
        findings[kind] = slide_findings(values[tiles], lesion, places.lesions.target)
    return LesionSlide(
        places.slide, bag.patient, places.lesions.sizes, places.lesions.target, findings
    )
