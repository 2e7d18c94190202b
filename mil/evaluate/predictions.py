"""Predictions of each slide by each head, and test slides under the attention of all heads."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from mil.evaluate.attention import attended_slide
from mil.evaluate.localise import hottest_tile_hit, tile_auroc
from mil.evaluate.mapped import ScoredHead
from mil.evaluate.rows import AttendedSlide, EvaluatedSlide
from mil.evaluate.selection import selection_of
from mil.io.bags.patients import FoldBag
from mil.io.scores import HeadScores
from mil.statistics.attention import entropy_share
from mil.trained.record import Trained


@dataclass
class SlidePredictions:
    """Predictions of all slides, a bag at a time.

    Attributes:
        kept: By the kept epochs' weights, each slide by each head.
        last: By the last epochs' weights, test slides only; empty: these were not kept.
        attended: Test slides under the mean attention of their heads.
    """

    kept: list[EvaluatedSlide] = field(default_factory=list)
    last: list[EvaluatedSlide] = field(default_factory=list)
    attended: list[AttendedSlide] = field(default_factory=list)

    def add(self, heads: Sequence[ScoredHead], share: Float[np.ndarray, " tiles"] | None) -> None:
        """Add a bag.

        Args:
            heads: Heads whose fold has the bag.
            share: Annotated share of each tile, 0..1; None: not known.
        """
        attention = []
        for head in heads:
            row = _row(head.bag, head.record, head.scores.predictions)
            # Metrics are of test slides: attention to slides that a head has seen says
            # nothing about others.
            if head.bag.split == "test":
                row = _test_row(row, head, share)
                attention.append(head.scores.attention)
                self._add_last(head)
            self.kept.append(row)
        if attention:
            self.attended.append(attended_slide(self.kept[-1], attention, share))

    def _add_last(self, head: ScoredHead) -> None:
        if head.scores.last is not None:
            # Calibration was fitted to the kept epoch, not to the last.
            uncalibrated = head.record.model_copy(update={"calibration": None})
            self.last.append(_row(head.bag, uncalibrated, head.scores.last.predictions))

    def sort(self) -> None:
        """Order the predictions by seed, fold and slide."""
        self.kept.sort(key=lambda row: (row.seed, row.fold, row.slide))


def _row(
    bag: FoldBag, trained: Trained, predictions: Float[np.ndarray, " columns"]
) -> EvaluatedSlide:
    """Predictions of a bag in its fold by one head."""
    calibration = trained.calibration
    return EvaluatedSlide(
        slide=bag.name,
        patient=bag.patient,
        split=bag.split,
        label=bag.label,
        predictions=_by_column(trained, predictions),
        recipe=trained.recipe_name,
        encoder=trained.encoder,
        seed=trained.seed,
        fold=trained.fold,
        temperature=1.0 if calibration is None else calibration.temperature,
        threshold=None if calibration is None else calibration.threshold,
        held_out=bag.held_out,
    )


def _test_row(
    row: EvaluatedSlide, head: ScoredHead, share: Float[np.ndarray, " tiles"] | None
) -> EvaluatedSlide:
    """Row with what the metrics of a test slide need besides its prediction."""
    scores = head.scores
    auroc = None
    hit = None
    if share is not None:
        auroc = tile_auroc(scores.attention, share)
    if share is not None and auroc is not None:
        hit = hottest_tile_hit(scores.attention, share)
    return replace(
        row,
        tile_auroc=auroc,
        hottest_tile_hit=hit,
        attention_entropy_share=entropy_share(scores.attention),
        selection=selection_of(scores, share),
        uncalibrated=_uncalibrated(head.record, scores),
    )


def _uncalibrated(trained: Trained, scores: HeadScores) -> dict[str, float] | None:
    """Predictions without calibration, by column; None: the head has none."""
    if trained.calibration is None:
        return None
    return _by_column(trained, trained.task.predictions(scores.logits[None])[0])


def _by_column(trained: Trained, predictions: Float[np.ndarray, " columns"]) -> dict[str, float]:
    columns = trained.task.columns
    return {name: float(value) for name, value in zip(columns, predictions, strict=True)}
