"""The 2x2 table of a test: what it calls positive against what is."""

from typing import NamedTuple

import numpy as np

from mil.statistics.arrays import Labels, Members
from mil.statistics.intervals import proportion
from mil.statistics.metric import Metric


class TwoByTwo(NamedTuple):
    """Counts of slides, and the four proportions with Wilson's 95 % intervals."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    sensitivity: Metric
    specificity: Metric
    ppv: Metric
    npv: Metric

    @property
    def n(self) -> int:
        """Number of slides."""
        return sum(self[:4])


def two_by_two(positive: Labels, called: Labels, member: Members) -> TwoByTwo:
    """Table of slides by label and decision; see `intervals.proportion` for the intervals.

    A proportion of no slides has no value, and one of a single patient no interval.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        called: 1 where the prediction is positive, else 0.
        member: Number of each slide's patient.
    """
    is_positive = positive == 1
    is_called = called == 1
    right = is_positive == is_called

    def share(rows: np.ndarray) -> Metric:
        if not rows.any():
            return Metric(value=None)
        ends = proportion(right[rows].astype(float), member[rows])
        return Metric(value=float(right[rows].mean()), ci95=ends)

    return TwoByTwo(
        true_positives=int((is_positive & is_called).sum()),
        false_positives=int((~is_positive & is_called).sum()),
        false_negatives=int((is_positive & ~is_called).sum()),
        true_negatives=int((~is_positive & ~is_called).sum()),
        sensitivity=share(is_positive),
        specificity=share(~is_positive),
        ppv=share(is_called),
        npv=share(~is_called),
    )
