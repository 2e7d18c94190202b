"""Estimated effects of tiles against those of really removing them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mil.evaluate.rows import mean
from mil.io.map_metrics import EvidenceCheck
from mil.io.scores import HeadScores
from mil.statistics.continuous import regression
from mil.statistics.discrimination import known
from mil.trained.record import Trained


class RemovedTiles(NamedTuple):
    """Effects of some tiles of one slide by one head, estimated and real."""

    seed: int
    fold: int
    tiles: int
    pearson: float | None
    spearman: float | None
    completeness_error: float | None


def removed_tiles(record: Trained, scores: HeadScores) -> RemovedTiles | None:
    """Correlation of estimated and real effects on the evidence for the class of interest.

    None where effects are exact, or not known.

    Args:
        record: Record of the head.
        scores: Scores of a slide by it.
    """
    evidence = scores.evidence
    if evidence is None or evidence.removed_tiles is None or evidence.removed_effect is None:
        return None
    task = record.task
    column = task.column_of_interest
    whole = task.evidence(scores.logits[None], column)
    estimated = whole - task.evidence(
        scores.logits - evidence.effect[evidence.removed_tiles], column
    )
    real = whole - task.evidence(scores.logits - evidence.removed_effect, column)
    correlations = regression(real, estimated, np.ones((1, len(real))))
    return RemovedTiles(
        seed=record.seed,
        fold=record.fold,
        tiles=len(real),
        pearson=known(correlations["pearson"][0]),
        spearman=known(correlations["spearman"][0]),
        completeness_error=evidence.completeness_error,
    )


def evidence_checks(removed: Iterable[RemovedTiles]) -> list[EvidenceCheck]:
    """One check for each head, over its test slides; empty where effects are exact.

    Args:
        removed: Check of each head and test slide.
    """
    by_head: dict[tuple[int, int], list[RemovedTiles]] = {}
    for one in removed:
        by_head.setdefault((one.seed, one.fold), []).append(one)
    return [_check(seed, fold, slides) for (seed, fold), slides in sorted(by_head.items())]


def _check(seed: int, fold: int, slides: Sequence[RemovedTiles]) -> EvidenceCheck:
    errors = [one.completeness_error for one in slides if one.completeness_error is not None]
    return EvidenceCheck(
        seed=seed,
        fold=fold,
        n_slides=len(slides),
        n_tiles=sum(one.tiles for one in slides),
        pearson=mean(one.pearson for one in slides),
        spearman=mean(one.spearman for one in slides),
        completeness_error_mean=mean(errors),
        completeness_error_max=max(errors, default=None),
    )
