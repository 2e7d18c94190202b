"""Concordance of predicted risks with observed times."""

import numpy as np
from jaxtyping import Bool

from mil.statistics.arrays import Draws, Numbers, Weights

_PAIRS = 4_000_000  # pairs compared at once, 32 MB


def concordance(
    times: Numbers,
    events: Bool[np.ndarray, " n"],
    risks: Numbers,
    weights: Weights,
) -> Draws:
    """Harrell's concordance index (1982, JAMA 247:2543), 0.5 by chance.

    Of all pairs of which it is known whose event came first, the fraction in which that
    one has the higher risk; ties count one half. With equal times it is known if one
    has an event and the other is censored; two events at the same time are no pair.

    Args:
        times: Time until the event or, for censored rows, until the end of follow-up.
        events: Whether the event was observed.
        risks: Predicted risks, larger for an earlier event.
        weights: Number of times that each row occurs, for each sample.

    Returns:
        Index of each sample; NaN where no pair can be compared.
    """
    concordant = np.zeros(len(weights))
    pairs = np.zeros(len(weights))
    with_event = np.flatnonzero(events)
    block = max(1, _PAIRS // max(1, len(times)))
    for start in range(0, len(with_event), block):
        rows = with_event[start : start + block]
        row_times = times[rows, None]
        row_risks = risks[rows, None]
        # Rows known to have their event after that of `rows`.
        later = (times > row_times) | ((times == row_times) & ~events)
        higher = (row_risks > risks) + 0.5 * (row_risks == risks)
        row_weights = weights[:, rows]
        concordant += (row_weights * (weights @ (later * higher).T)).sum(1)
        pairs += (row_weights * (weights @ later.T.astype(float))).sum(1)
    return np.divide(concordant, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
