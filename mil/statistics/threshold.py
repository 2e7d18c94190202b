"""The threshold at which a positive call is made, chosen on validation slides."""

import numpy as np
from jaxtyping import Float, Int

NO_CHOICE = 0.5


def youden_threshold(positive: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """The cut with the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32); `score >= cut` is positive.

    A cut lies in the middle between neighbouring scores; of several equally good ones
    the nearest to 0.5 is taken.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: probability of the positive class, of validation slides.

    Returns:
        The cut; 0.5 where it cannot be chosen: one class only, or no cut better than
        chance.
    """
    values = np.unique(scores)
    is_positive = positive.astype(bool)
    if is_positive.all() or not is_positive.any() or len(values) < 2:
        return NO_CHOICE
    cuts = (values[1:] + values[:-1]) / 2
    found = [
        np.searchsorted(np.sort(scores[mine]), cuts) / mine.sum()
        for mine in (~is_positive, is_positive)
    ]
    gain = found[0] - found[1]  # share of negatives below the cut, less that of positives
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return (
        float(cuts[best[np.abs(cuts[best] - NO_CHOICE).argmin()]])
        if gain.max() > 1e-12
        else NO_CHOICE
    )
