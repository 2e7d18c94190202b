"""Distance of predicted and true classes that have an order."""

from collections.abc import Mapping

import numpy as np

from mil.statistics import confusion
from mil.statistics.arrays import Draws, Labels, Probabilities, Weights


def ranks_of(probabilities: Probabilities) -> Labels:
    """Predicted class: the number of classes that a slide is more probably above than not.

    That is the median of the distribution, as CORN predicts, not its mode.
    """
    above = 1 - probabilities.cumsum(1)[:, :-1]
    return (above > 0.5).sum(1)


def ordinal(
    labels: Labels,
    probabilities: Probabilities,
    weights: Weights,
) -> Mapping[str, Draws]:
    """Metrics of samples in which each row occurs `weights` times.

    Returns:
        `kappa_quadratic`, Cohen's weighted by the squared distance of classes, -1..1, 0
        by chance, NaN where labels and predictions are all of one class; `mae_classes`,
        the mean distance in classes; `balanced_accuracy` and `accuracy`.
    """
    classes = probabilities.shape[1]
    table = confusion.weighted_confusion(labels, ranks_of(probabilities), classes, weights)
    distance = np.abs(np.arange(classes)[:, None] - np.arange(classes))
    total = table.sum((-1, -2))
    # Counts that independent labels and predictions would give.
    by_chance = table.sum(-1)[:, :, None] * table.sum(-2)[:, None] / total[:, None, None]
    expected = (by_chance * distance**2).sum((-1, -2))
    observed = (table * distance**2).sum((-1, -2))
    varies = expected > 0
    kappa = np.where(varies, 1 - observed / np.where(varies, expected, 1), np.nan)
    return {
        "kappa_quadratic": kappa,
        "mae_classes": (table * distance).sum((-1, -2)) / total,
        "balanced_accuracy": confusion.balanced_accuracy(table),
        "accuracy": confusion.accuracy(table),
    }
