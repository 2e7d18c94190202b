"""Classification metrics, each named exactly, with bootstrap intervals over patients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 1000


def auroc(positive: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float | None:
    """Area under the ROC curve from mid-ranks; None with a single class."""
    count = int(positive.sum())
    others = len(positive) - count
    if count == 0 or others == 0:
        return None
    ranks = mid_ranks(scores)[positive.astype(bool)].sum()
    return float((ranks - count * (count + 1) / 2) / (count * others))


def mid_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 1; equal values share the mean of theirs.

    Equal to scipy.stats.rankdata, whose import would take longer than drawing a heatmap.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[group]


def classification(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> dict[str, float | None]:
    """Metrics of class probabilities.

    Returns:
        `auroc_macro` (one class against the rest, mean over classes that occur; None with a single class),
        `f1_macro` and `accuracy` of the most probable class.
    """
    predicted = probabilities.argmax(-1)
    areas = [auroc((labels == c).astype(int), probabilities[:, c]) for c in range(probabilities.shape[1])]
    known = [area for area in areas if area is not None]
    return {
        "auroc_macro": float(np.mean(known)) if known else None,
        "f1_macro": f1_macro(labels, predicted),
        "accuracy": float((labels == predicted).mean()),
    }


def f1_macro(labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"]) -> float:
    """F1 of each class that occurs among labels or predictions, mean over them.

    Equal to scikit-learn's, without its checks, which a thousand resamples cannot afford.
    """
    right = np.bincount(labels[labels == predicted], minlength=max(labels.max(), predicted.max()) + 1)
    both = np.bincount(labels, minlength=len(right)) + np.bincount(predicted, minlength=len(right))
    return float((2 * right[both > 0] / both[both > 0]).mean())


def with_intervals(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    patients: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Metrics with 95 % percentile intervals; whole patients are drawn with replacement.

    Returns:
        For each metric `value` and `ci95` (low, high; None where it cannot be had, as with a single patient), and
        `n_slides` and `n_patients`.
    """
    values = classification(labels, probabilities)
    names, member = np.unique(np.asarray(patients), return_inverse=True)
    rows_of = [np.flatnonzero(member == i) for i in range(len(names))]
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(resamples):
        rows = np.concatenate([rows_of[i] for i in rng.integers(len(names), size=len(names))])
        for name, value in classification(labels[rows], probabilities[rows]).items():
            if value is not None:
                drawn[name].append(value)
    metrics: dict[str, Any] = {
        name: {"value": value, "ci95": _interval(drawn[name]) if value is not None and len(names) > 1 else None}
        for name, value in values.items()
    }
    return {**metrics, "n_slides": len(labels), "n_patients": len(names)}


def _interval(values: list[float]) -> list[float] | None:
    return [float(np.quantile(values, q)) for q in (0.025, 0.975)] if values else None
