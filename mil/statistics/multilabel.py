"""Metrics of several classes at once, each present or absent."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mil.statistics.arrays import Draws, Probabilities, Weights
from mil.statistics.discrimination import weighted_auprc, weighted_auroc

THRESHOLD = 0.5  # probability from which a class is predicted


def multilabel(
    labels: Float[np.ndarray, "n classes"],
    probabilities: Probabilities,
    names: Sequence[str],
    weights: Weights,
) -> Mapping[str, Draws]:
    """Metrics of classes that do not exclude one another; predicted from 0.5 on.

    Args:
        labels: 1 for each class that a slide has, else 0.
        probabilities: Probability of each class.
        names: Names of the classes.
        weights: Number of times that each row occurs, for each sample.

    Returns:
        `auroc_macro` and `auprc_macro`, mean over the classes that some slides have and
        some have not; `f1_macro`, mean F1 of the classes that occur among labels or
        predictions, and `f1_micro`, of all counts together; `exact_match`, the fraction
        of slides of which all classes are right; `auroc_CLASS` of each class. NaN where
        a sample does not allow a metric.
    """
    present = labels > 0.5
    predicted = probabilities >= THRESHOLD
    aurocs = []
    auprcs = []
    for number in range(len(names)):
        positive = present[:, number].astype(int)
        scores = probabilities[:, number]
        aurocs.append(weighted_auroc(positive, scores, weights))
        auprcs.append(weighted_auprc(positive, scores, weights))
    hits = weights @ (present & predicted)  # [draws, classes]
    labels_and_predictions = weights @ (present.astype(float) + predicted)
    exact = (present == predicted).all(1)
    metrics = {
        "auroc_macro": _mean(np.stack(aurocs)),
        "auprc_macro": _mean(np.stack(auprcs)),
        "f1_macro": _mean(_ratio(2 * hits, labels_and_predictions).T),
        "f1_micro": _ratio(2 * hits.sum(1), labels_and_predictions.sum(1)),
        "exact_match": weights @ exact / weights.sum(1),
    }
    for name, auroc in zip(names, aurocs, strict=True):
        metrics[f"auroc_{name}"] = auroc
    return metrics


def _mean(values: np.ndarray) -> Draws:
    """Mean over classes of the values that are not NaN."""
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0).sum(0), finite.sum(0))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
