"""Metrics counted in a confusion matrix: rows are labels, columns predictions.

All functions take one matrix or a stack of them.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from mil.statistics.arrays import Labels, Weights

# Whole numbers of one set, or sums of weights of many samples.
Tables = Num[np.ndarray, "*stack classes classes"]
Values = Float[np.ndarray, "*stack"]


def confusion(
    labels: Labels, predicted: Labels, classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Number of slides with each label (row) and prediction (column)."""
    cells = np.bincount(labels * classes + predicted, minlength=classes**2)
    return cells.reshape(classes, classes)


def weighted_confusion(
    labels: Labels,
    predicted: Labels,
    classes: int,
    weights: Weights,
) -> Float[np.ndarray, "draws classes classes"]:
    """Confusion matrix of each sample in which each slide occurs `weights` times."""
    # One-hot cells times weights: one matrix product counts all samples.
    cells = np.eye(classes**2)[labels * classes + predicted]
    return (weights @ cells).reshape(-1, classes, classes)


def accuracy(table: Tables) -> Values:
    """Fraction of correct predictions."""
    return _ratio(_correct(table).sum(-1), table.sum((-1, -2)))


def recalls(table: Tables) -> Float[np.ndarray, "*stack classes"]:
    """Recall of each class; NaN for a class that no label has."""
    return _ratio(_correct(table), table.sum(-1))


def balanced_accuracy(table: Tables) -> Values:
    """Mean recall over the classes that labels have.

    Of two classes, the mean of sensitivity and specificity.
    """
    return _mean(recalls(table))


def f1_macro(table: Tables) -> Values:
    """Mean F1 over the classes that occur among labels or predictions."""
    return _mean(_ratio(2 * _correct(table), table.sum(-1) + table.sum(-2)))


def f1_micro(table: Tables) -> Values:
    """F1 of the counts of all classes together.

    With one label and one prediction a slide it is the accuracy.
    """
    return _ratio(2 * _correct(table).sum(-1), table.sum((-1, -2)) * 2)


def sensitivity(table: Tables) -> Values:
    """Fraction of positives predicted positive; of two classes the second is positive."""
    return _ratio(table[..., 1, 1], table[..., 1, :].sum(-1))


def specificity(table: Tables) -> Values:
    """Fraction of negatives predicted negative."""
    return _ratio(table[..., 0, 0], table[..., 0, :].sum(-1))


def ppv(table: Tables) -> Values:
    """Positive predictive value: fraction of positive predictions that are correct.

    Also called precision; it depends on the prevalence.
    """
    return _ratio(table[..., 1, 1], table[..., :, 1].sum(-1))


def npv(table: Tables) -> Values:
    """Negative predictive value: fraction of negative predictions that are correct.

    It depends on the prevalence.
    """
    return _ratio(table[..., 0, 0], table[..., :, 0].sum(-1))


def _correct(table: np.ndarray) -> np.ndarray:
    return np.diagonal(table, axis1=-2, axis2=-1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that are not NaN; NaN if all are."""
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0).sum(-1), finite.sum(-1))


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Quotient of numbers or arrays, NaN where the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)
