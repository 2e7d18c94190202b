"""Maps of the slides, one bag at a time: what their metrics need, without the maps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.evaluate.annotations import AnnotatedSlide, SlideAnnotations
from mil.evaluate.dice import RankedTiles, ranked_tiles
from mil.evaluate.evidence import RemovedTiles, removed_tiles
from mil.evaluate.flipping import flip_curves
from mil.evaluate.lesion_slides import LesionSlides
from mil.evaluate.localise import (
    annotated_share,
    average_precision,
    tile_auroc,
)
from mil.evaluate.top_hits import top_hits, top_hits_by_chance
from mil.io.bags.patients import FoldBag
from mil.io.scores import MAP_KINDS, HeadScores
from mil.statistics.flipping import FlipCurves
from mil.tasks import Task
from mil.trained.record import Trained
from mil.trained.tile_maps import TileMap, tile_map


class ScoredHead(NamedTuple):
    """A head with its scores of a bag, and the bag as a slide of the head's fold."""

    record: Trained
    scores: HeadScores
    bag: FoldBag


class FoundTiles(NamedTuple):
    """A map of one slide against its annotated tiles."""

    auroc: float
    average_precision: float
    top_hits: Float[np.ndarray, " ks"]
    ranked: RankedTiles


class AnnotatedTiles(NamedTuple):
    """Maps of one slide against its annotated tiles, and what chance gives."""

    by_kind: dict[str, FoundTiles]
    annotated_share: float
    top_by_chance: Float[np.ndarray, " ks"]


class MappedSlide(NamedTuple):
    """Maps of a test slide, each the mean over the heads that held it out."""

    slide: str
    patient: str
    folds: frozenset[int]  # of the heads
    n_tiles: int
    curves: dict[str, FlipCurves]
    tiles: AnnotatedTiles | None  # None: no annotation that counts


class ValidationTiles(NamedTuple):
    """Tiles of an annotated slide in the order of a map by the heads of one fold."""

    fold: int
    kind: str
    tiles: RankedTiles


@dataclass
class MappedSlides:
    """What is kept of the maps of all slides.

    Attributes:
        annotations: Annotations of the slides.
        lesions: Lesions of the test slides and the detections in them.
        test: Test slides.
        validation: Annotated validation slides, by which thresholds are chosen.
        removed: Checks of estimated effects, one for each head and test slide.
    """

    annotations: SlideAnnotations
    lesions: LesionSlides
    test: list[MappedSlide] = field(default_factory=list)
    validation: list[ValidationTiles] = field(default_factory=list)
    removed: list[RemovedTiles] = field(default_factory=list)

    @classmethod
    def of(cls, annotations: SlideAnnotations, bags_dir: Path) -> "MappedSlides":
        """Nothing yet."""
        return cls(annotations, LesionSlides(annotations, bags_dir))

    def needs_evidence(self, bags: Sequence[FoldBag]) -> bool:
        """Whether maps of evidence of a bag are used; they are the largest to read.

        Args:
            bags: The bag in each fold.
        """
        annotated = any(slide in self.annotations.files for bag in bags for slide in bag.slides)
        return any(bag.split == "test" or (annotated and bag.split == "val") for bag in bags)

    def add(
        self,
        heads: Sequence[ScoredHead],
        annotated: Sequence[AnnotatedSlide] | None,
        share: Float[np.ndarray, " tiles"] | None,
    ) -> None:
        """Add a bag.

        Args:
            heads: The heads whose fold has the bag.
            annotated: Slides of the bag with their regions; None: not all are annotated.
            share: Annotated share of each tile; None: not known.
        """
        test = [head for head in heads if head.bag.split == "test"]
        if test:
            self._add_test(test, annotated, share)
        folds = {head.record.fold for head in heads if head.bag.split == "val"}
        for fold in sorted(folds):
            of_fold = [
                head for head in heads if head.record.fold == fold and head.bag.split == "val"
            ]
            self._add_validation(fold, of_fold, share)

    def _add_test(
        self,
        heads: Sequence[ScoredHead],
        annotated: Sequence[AnnotatedSlide] | None,
        share: Float[np.ndarray, " tiles"] | None,
    ) -> None:
        bag = heads[0].bag
        task = heads[0].record.task
        maps = maps_of(heads)
        tiles = None
        if share is not None and task.attends_to_annotations(bag.label):
            tiles = _annotated_tiles(maps, share)
        self.test.append(
            MappedSlide(
                slide=bag.name,
                patient=bag.patient,
                folds=frozenset(head.record.fold for head in heads),
                n_tiles=len(heads[0].scores.attention),
                curves=flip_curves(task, [head.scores for head in heads]),
                tiles=tiles,
            )
        )
        self.removed += [
            checked
            for head in heads
            if (checked := removed_tiles(head.record, head.scores)) is not None
        ]
        scores: dict[str, Float[np.ndarray, " tiles"]] = {
            one.kind: detection_scores(one, task, heads) for one in maps
        }
        self.lesions.add(bag, scores, annotated, task)

    def _add_validation(
        self, fold: int, heads: Sequence[ScoredHead], share: Float[np.ndarray, " tiles"] | None
    ) -> None:
        if share is None or not heads[0].record.task.attends_to_annotations(heads[0].bag.label):
            return
        for one in maps_of(heads):
            if tile_auroc(one.values, share) is not None:
                tiles = ranked_tiles(_comparable(one), share)
                self.validation.append(ValidationTiles(fold, one.kind, tiles))


def maps_of(heads: Sequence[ScoredHead]) -> list[TileMap]:
    """Maps of a bag for the class of interest, mean over heads; only kinds that are known."""
    records = [head.record for head in heads]
    scores = [head.scores for head in heads]
    maps = [tile_map(kind, records, scores) for kind in MAP_KINDS]
    return [one for one in maps if one is not None]


def _annotated_tiles(
    maps: Sequence[TileMap], share: Float[np.ndarray, " tiles"]
) -> AnnotatedTiles | None:
    by_kind = {}
    for one in maps:
        auroc = tile_auroc(one.values, share)
        precision = average_precision(one.values, share)
        if auroc is None or precision is None:
            return None
        by_kind[str(one.kind)] = FoundTiles(
            auroc=auroc,
            average_precision=precision,
            top_hits=top_hits(one.values, share),
            ranked=ranked_tiles(_comparable(one), share),
        )
    return AnnotatedTiles(by_kind, annotated_share(share), top_hits_by_chance(share))


def _comparable(one: TileMap) -> Float[np.ndarray, " tiles"]:
    """Values on a scale that slides share: attention as multiple of uniform attention."""
    return one.values if one.is_signed else one.values * len(one.values)


def detection_scores(
    one: TileMap, task: Task, heads: Sequence[ScoredHead]
) -> Float[np.ndarray, " tiles"]:
    """Score of each tile as a detection, on a scale that slides share; -inf: it is none.

    Attention, and its rollout, say where a head looked and not what it saw, and sum to 1
    whatever the slide. The tile of most attention therefore gets the slide's probability
    of the class of interest, and others their part of it. A tile without attention, or
    that does not speak for the class, is no detection.

    Args:
        one: Map of the slide.
        task: Task of the heads.
        heads: The heads with their scores of the slide.
    """
    values = one.values
    if not one.is_signed:
        column = list(task.columns).index(task.column_of_interest)
        probability = 1.0
        if task.classes:
            probability = float(np.mean([head.scores.predictions[column] for head in heads]))
        values = probability * values / values.max()
    return values if one.kind == "alone" else np.where(one.values > 0, values, -np.inf)
