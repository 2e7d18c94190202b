"""How far apart predicted and true classes are that have an order."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from mil.statistics import confusion


def ranks_of(probabilities: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
    """The predicted class: how many classes it is more probable than not to be above, as CORN predicts (the median)."""
    above = 1 - probabilities.cumsum(1)[:, :-1]
    return (above > 0.5).sum(1)


def ordinal(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    weights: Float[np.ndarray, "draws n"],
) -> Mapping[str, Float[np.ndarray, " draws"]]:
    """Metrics of the predicted classes in samples in which each row occurs `weights` times.

    Returns:
        `kappa_quadratic`, Cohen's weighted by the squared distance of classes, -1..1, 0
        by chance, NaN where labels and predictions are all of one class; `mae_classes`,
        the mean distance in classes; `balanced_accuracy` and `accuracy`.
    """
    classes = probabilities.shape[1]
    table = confusion.weighted_confusion(labels, ranks_of(probabilities), classes, weights)
    apart = np.abs(np.arange(classes)[:, None] - np.arange(classes))
    total = table.sum((-1, -2))
    by_chance = table.sum(-1)[:, :, None] * table.sum(-2)[:, None] / total[:, None, None]
    expected, seen = ((counts * apart**2).sum((-1, -2)) for counts in (by_chance, table))
    kappa = np.where(expected > 0, 1 - seen / np.where(expected > 0, expected, 1), np.nan)
    return {
        "kappa_quadratic": kappa,
        "mae_classes": (table * apart).sum((-1, -2)) / total,
        "balanced_accuracy": confusion.balanced_accuracy(table),
        "accuracy": confusion.accuracy(table),
    }
