"""How far predicted numbers are from the labels, in samples in which each row occurs `weights` times."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float


def regression(
    labels: Float[np.ndarray, " n"],
    predicted: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
) -> Mapping[str, Float[np.ndarray, " draws"]]:
    """Metrics of predicted numbers.

    Returns:
        `mae` and `rmse` in the label's units; `r2`, the coefficient of determination
        (0: no better than the labels' mean; below: worse), NaN where labels do not
        differ; `pearson` and `spearman`, -1..1, NaN where labels or predictions do not
        differ.
    """
    error = labels - predicted
    squared = _mean(weights, error**2)
    spread = _covariance(weights, labels, labels)
    r2 = np.where(spread > 0, 1 - squared / np.where(spread > 0, spread, 1), np.nan)
    return {
        "mae": _mean(weights, np.abs(error)),
        "rmse": np.sqrt(squared),
        "r2": r2,
        "pearson": _correlation(weights, labels, predicted),
        "spearman": _correlation(weights, _ranks(labels, weights), _ranks(predicted, weights)),
    }


def _mean(weights: np.ndarray, values: np.ndarray) -> Float[np.ndarray, " draws"]:
    return (weights * values).sum(-1) / weights.sum(-1)


def _covariance(
    weights: np.ndarray, one: np.ndarray, other: np.ndarray
) -> Float[np.ndarray, " draws"]:
    centred = [values - _mean(weights, values)[:, None] for values in (one, other)]
    found = _mean(weights, centred[0] * centred[1])
    # What is left of values that do not differ is rounding.
    scale = _mean(weights, np.abs(one)) * _mean(weights, np.abs(other))
    return np.where(np.abs(found) > 1e-24 * np.maximum(scale, 1e-300), found, 0.0)


def _correlation(
    weights: np.ndarray, one: np.ndarray, other: np.ndarray
) -> Float[np.ndarray, " draws"]:
    spread = _covariance(weights, one, one) * _covariance(weights, other, other)
    found = _covariance(weights, one, other) / np.sqrt(np.where(spread > 0, spread, 1))
    return np.where(spread > 0, found.clip(-1, 1), np.nan)


def _ranks(values: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, "draws n"]:
    """Mid-rank of each row in each sample: rows below, and half of those that are equal."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (sizes.cumsum(1) - sizes / 2)[:, group]
