"""Errors and correlations of predicted numbers, in weighted samples."""

from collections.abc import Mapping

import numpy as np

from mil.statistics.arrays import Draws, Numbers, Weights

# Variances below this multiple of the squared mean size are rounding, not variation.
ROUNDING = 1e-24
SMALLEST_SCALE = 1e-300  # keeps the comparison from underflowing to 0 > 0


def regression(
    labels: Numbers,
    predicted: Numbers,
    weights: Weights,
) -> Mapping[str, Draws]:
    """Metrics of samples in which each row occurs `weights` times.

    Returns:
        `mae` and `rmse` in the label's units; `r2`, the coefficient of determination
        (0: no better than the labels' mean; below: worse), NaN where labels do not
        differ; `pearson` and `spearman`, -1..1, NaN where labels or predictions do not
        differ.
    """
    error = labels - predicted
    squared_error = _mean(weights, error**2)
    variance = _covariance(weights, labels, labels)
    varies = variance > 0
    r2 = np.where(varies, 1 - squared_error / np.where(varies, variance, 1), np.nan)
    return {
        "mae": _mean(weights, np.abs(error)),
        "rmse": np.sqrt(squared_error),
        "r2": r2,
        "pearson": _correlation(weights, labels, predicted),
        "spearman": _correlation(weights, _ranks(labels, weights), _ranks(predicted, weights)),
    }


def _mean(weights: np.ndarray, values: np.ndarray) -> Draws:
    return (weights * values).sum(-1) / weights.sum(-1)


def _covariance(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> Draws:
    centred_x = x - _mean(weights, x)[:, None]
    centred_y = y - _mean(weights, y)[:, None]
    covariance = _mean(weights, centred_x * centred_y)
    # Values that do not differ leave a covariance of rounding errors.
    scale = _mean(weights, np.abs(x)) * _mean(weights, np.abs(y))
    rounding = ROUNDING * np.maximum(scale, SMALLEST_SCALE)
    return np.where(np.abs(covariance) > rounding, covariance, 0.0)


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> Draws:
    variances = _covariance(weights, x, x) * _covariance(weights, y, y)
    varies = variances > 0
    correlation = _covariance(weights, x, y) / np.sqrt(np.where(varies, variances, 1))
    return np.where(varies, correlation.clip(-1, 1), np.nan)


def _ranks(values: np.ndarray, weights: np.ndarray) -> Weights:
    """Mid-rank of each row in each sample: rows below, and half of the equal ones."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (sizes.cumsum(1) - sizes / 2)[:, group]
