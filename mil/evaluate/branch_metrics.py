"""Metrics of a head without each of its branches, on the test slides of its fold."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.evaluate.branch_slides import AblatedSlide, AnnotatedBranches
from mil.evaluate.rows import mean
from mil.evaluate.top_hits import TOP, rates_of_top_hits
from mil.io.branch_metrics import BranchMetrics, HeadBranches
from mil.io.map_metrics import TopHits
from mil.statistics.delong import Difference
from mil.statistics.metric import Metric
from mil.tasks import Task
from mil.tasks.base import Predictions


class _Changes(NamedTuple):
    """Paired differences of the main metric, without each branch less with all."""

    differences: list[Difference]  # empty: there is no test
    method: str
    why_not: str  # why there is no test; empty: there is one


def branches_of_head(
    seed: int, fold: int, task: Task, slides: Sequence[AblatedSlide]
) -> tuple[HeadBranches, str]:
    """Metrics of a head's branches, and the method of their intervals.

    Args:
        seed: Random seed of the head.
        fold: Its fold.
        task: Its task.
        slides: Test slides of the fold.
    """
    slides = sorted(slides, key=lambda slide: slide.bag.name)
    patients = [slide.bag.patient for slide in slides]
    targets = np.stack([task.target(slide.bag.label) for slide in slides])
    whole = np.stack([slide.whole for slide in slides])
    without = np.stack([slide.without for slide in slides], axis=1)
    value = main_metric(task, targets, whole)
    changes = _changes(task, targets, [whole, *without], patients)
    branches = []
    for branch, predictions in enumerate(without):
        interval = changes.differences[branch].ci95 if changes.differences else None
        difference = _less(main_metric(task, targets, predictions), value)
        change = Metric(value=difference, ci95=interval)
        branches.append(_branch_metrics(branch, change, slides))
    annotated = [slide.annotated for slide in slides if slide.annotated is not None]
    of_head = HeadBranches(
        seed=seed,
        fold=fold,
        n_slides=len(slides),
        n_annotated=len(annotated),
        value=value,
        why_not=changes.why_not,
        annotated_by_chance=mean(one.share for one in annotated),
        spread_by_chance=mean(slide.spread_by_chance for slide in slides),
        branches=branches,
    )
    return of_head, changes.method


def main_metric(task: Task, targets: np.ndarray, predictions: Predictions) -> float | None:
    """Main metric of all slides; None: they do not allow it."""
    once = np.ones((1, len(targets)))
    value = task.weighted_metrics(targets, predictions, once)[task.main_metric][0]
    return float(value) if np.isfinite(value) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _changes(
    task: Task, targets: np.ndarray, predictions: Sequence[Predictions], patients: Sequence[str]
) -> _Changes:
    """Paired test of the predictions without each branch against the first, with all."""
    pairs = [(branch, 0) for branch in range(1, len(predictions))]
    try:
        test = task.paired_test(targets, predictions, patients, pairs)
    # Too few patients, or a metric that these slides do not allow.
    except ValueError as error:
        return _Changes([], "", str(error))
    return _Changes(test.differences, test.method, "")


def _branch_metrics(branch: int, change: Metric, slides: Sequence[AblatedSlide]) -> BranchMetrics:
    annotated = [slide.annotated for slide in slides if slide.annotated is not None]
    patients = [slide.bag.patient for slide in slides if slide.annotated is not None]
    return BranchMetrics(
        branch=branch + 1,
        change=change,
        kl=_mean_of_branch((slide.kl for slide in slides), branch),
        attention_annotated=_mean_of_branch((one.attention for one in annotated), branch),
        top_hits=_top_hits(annotated, patients, branch),
        spread=_mean_of_branch((slide.spread for slide in slides), branch),
    )


def _mean_of_branch(
    values: Iterable[Float[np.ndarray, " branches"] | None], branch: int
) -> float | None:
    """Mean over the slides whose value is known."""
    return mean(None if of_slide is None else of_slide[branch] for of_slide in values)


def _top_hits(
    annotated: Sequence[AnnotatedBranches], patients: Sequence[str], branch: int
) -> list[TopHits]:
    if not annotated:
        return []
    hits = np.array([one.top_hits[branch] for one in annotated])
    by_chance = [
        float(np.mean([one.top_by_chance[number] for one in annotated]))
        for number in range(len(TOP))
    ]
    return rates_of_top_hits(hits, by_chance, patients)
