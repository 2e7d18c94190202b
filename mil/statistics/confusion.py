"""What is counted in a table of labels against predictions. All take one table or a stack of them."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

Tables = Num[np.ndarray, "*stack classes classes"]  # rows: labels, columns: predictions
Values = Float[np.ndarray, "*stack"]


def confusion(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """How often each label (row) got each prediction (column)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def weighted_confusion(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    classes: int,
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, "draws classes classes"]:
    """The table of each sample in which each row occurs `weights` times."""
    cells = np.eye(classes**2)[labels * classes + predicted]
    return (weights @ cells).reshape(-1, classes, classes)


def accuracy(table: Tables) -> Values:
    """Share of right predictions."""
    return _ratio(_right(table).sum(-1), table.sum((-1, -2)))


def recalls(table: Tables) -> Float[np.ndarray, "*stack classes"]:
    """Share of each class that is predicted as such; NaN for a class that no label has."""
    return _ratio(_right(table), table.sum(-1))


def balanced_accuracy(table: Tables) -> Values:
    """Mean recall over the classes that labels have; of two classes, the mean of sensitivity and specificity."""
    return _mean(recalls(table))


def f1_macro(table: Tables) -> Values:
    """F1 of each class that occurs among labels or predictions, plain mean over them."""
    return _mean(_ratio(2 * _right(table), table.sum(-1) + table.sum(-2)))


def f1_micro(table: Tables) -> Values:
    """F1 of all classes' counts together. Where each slide has one label and one prediction it is the accuracy."""
    return _ratio(2 * _right(table).sum(-1), table.sum((-1, -2)) * 2)


def sensitivity(table: Tables) -> Values:
    """Of two classes, the second being the positive: share of positives found."""
    return _ratio(table[..., 1, 1], table[..., 1, :].sum(-1))


def specificity(table: Tables) -> Values:
    """Share of negatives called negative."""
    return _ratio(table[..., 0, 0], table[..., 0, :].sum(-1))


def ppv(table: Tables) -> Values:
    """Positive predictive value (precision): share of positive calls that are right; it depends on prevalence."""
    return _ratio(table[..., 1, 1], table[..., :, 1].sum(-1))


def npv(table: Tables) -> Values:
    """Negative predictive value: share of negative calls that are right; it depends on prevalence."""
    return _ratio(table[..., 0, 0], table[..., :, 0].sum(-1))


def _right(table: np.ndarray) -> np.ndarray:
    return np.diagonal(table, axis1=-2, axis2=-1)


def _mean(each: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN if nothing is."""
    there = np.isfinite(each)
    return _ratio(np.where(there, each, 0).sum(-1), there.sum(-1))


def _ratio(above: Any, below: Any) -> Any:
    """Quotient, NaN where there is nothing to divide by; numbers or arrays."""
    return np.divide(
        above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0
    )
