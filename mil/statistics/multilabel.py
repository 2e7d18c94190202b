"""Several classes at once, each of which is there or not."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mil.statistics.discrimination import weighted_auprc, weighted_auroc


def multilabel(
    labels: Float[np.ndarray, "n classes"],
    probabilities: Float[np.ndarray, "n classes"],
    names: Sequence[str],
    weights: Float[np.ndarray, "draws n"],
) -> Mapping[str, Float[np.ndarray, " draws"]]:
    """Metrics of probabilities of classes that do not exclude one another; a class is called from 0.5 on.

    Returns:
        `auroc_macro` and `auprc_macro`, mean over the classes that some slides have and
        some have not; `f1_macro`, mean of the classes' F1 (of those that occur among
        labels or calls), and `f1_micro`, of all counts together; `exact_match`, the
        share of slides of which all classes are right; `auroc_CLASS` of each. NaN where
        there is none.
    """
    there = labels > 0.5
    called = probabilities >= 0.5
    each = {
        kind: np.stack(
            [
                metric(there[:, c].astype(int), probabilities[:, c], weights)
                for c in range(len(names))
            ]
        )
        for kind, metric in (("auroc", weighted_auroc), ("auprc", weighted_auprc))
    }
    # [draws, classes]
    hits = weights @ (there & called)
    both = weights @ (there.astype(float) + called)
    return {
        "auroc_macro": _mean(each["auroc"]),
        "auprc_macro": _mean(each["auprc"]),
        "f1_macro": _mean(_ratio(2 * hits, both).T),
        "f1_micro": _ratio(2 * hits.sum(1), both.sum(1)),
        "exact_match": weights @ (there == called).all(1) / weights.sum(1),
        **{f"auroc_{name}": values for name, values in zip(names, each["auroc"], strict=True)},
    }


def _mean(each: np.ndarray) -> Float[np.ndarray, " draws"]:
    known = np.isfinite(each)
    return _ratio(np.where(known, each, 0).sum(0), known.sum(0))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
