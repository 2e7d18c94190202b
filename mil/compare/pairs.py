"""Paired tests: whether two heads differ on the slides that both were tested on."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mil.compare.read import EvaluatedHead
from mil.io.results import Pair, PairedTests
from mil.statistics.delong import Difference
from mil.statistics.multiple import holm
from mil.statistics.power import smallest_difference


def compare_pairs(heads: Sequence[EvaluatedHead]) -> PairedTests:
    """Test every two heads by the main metric of their task.

    Predictions are averaged over seeds and folds. Where slides do not show how far a
    difference varies, the pair has the difference alone; see
    `mil.statistics.delong.normal_difference`.
    """
    first = heads[0]
    task = first.task
    numbers = list(combinations(range(len(heads)), 2))
    if not numbers:
        return _untested(task.main_metric, "there is one head")
    if not first.labels:
        return _untested(task.main_metric, "they share no test slide")
    try:
        test = task.paired_test(
            np.stack([task.target(label) for label in first.labels.values()]),
            [head.predictions for head in heads],
            list(first.patients.values()),
            numbers,
        )
    # Too few patients, or a metric that these slides do not allow.
    except ValueError as error:
        return _untested(task.main_metric, str(error))
    corrected = _corrected(test.differences)
    pairs = [
        _pair(heads[one].name, heads[other].name, difference, p_holm)
        for (one, other), difference, p_holm in zip(
            numbers, test.differences, corrected, strict=True
        )
    ]
    return PairedTests(metric=task.main_metric, method=test.method, why_not="", pairs=pairs)


def _untested(metric: str, reason: str) -> PairedTests:
    return PairedTests(metric=metric, method=None, why_not=reason, pairs=[])


def _pair(one: str, other: str, difference: Difference, p_holm: float | None) -> Pair:
    tested = difference.p is not None
    return Pair(
        one=one,
        other=other,
        difference=difference.difference,
        ci95=difference.ci95,
        p=difference.p,
        p_holm=p_holm,
        # No significant difference does not show that there is none, so each pair
        # states what its test could have detected.
        smallest_difference=smallest_difference(difference.error) if tested else None,
    )


def _corrected(differences: Sequence[Difference]) -> list[float | None]:
    """P values corrected for the number of tested pairs."""
    # Pairs in which nothing varies are no tests, and count for nothing in the correction.
    tested = [difference.p for difference in differences if difference.p is not None]
    adjusted = iter(holm(np.array(tested)))
    return [None if difference.p is None else float(next(adjusted)) for difference in differences]
