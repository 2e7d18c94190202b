"""Whether those with the higher risk have their event sooner."""

import numpy as np
from jaxtyping import Bool, Float

_PAIRS = 4_000_000  # at once, 32 MB


def concordance(
    times: Float[np.ndarray, " n"],
    events: Bool[np.ndarray, " n"],
    risks: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Harrell's concordance index (1982, JAMA 247:2543), 0.5 by chance, in samples in which rows occur `weights` times.

    Of all pairs of which it is known whose event came first, the share in which that
    one has the higher risk; equal risks count half. With equal times it is known if one
    has an event and the other is censored; two events at the same time are no pair.

    Args:
        times: until the event or, for censored rows, until which none was seen.
        events: whether it was seen.
        risks: larger: sooner.
        weights: of each row in each sample.

    Returns:
        NaN where no pair can be compared.
    """
    right = np.zeros(len(weights))
    pairs = np.zeros(len(weights))
    first = np.flatnonzero(events)
    block = max(1, _PAIRS // max(1, len(times)))
    for start in range(0, len(first), block):
        rows = first[start : start + block]
        later = (times > times[rows, None]) | ((times == times[rows, None]) & ~events)
        higher = (risks[rows, None] > risks) + 0.5 * (risks[rows, None] == risks)
        right += (weights[:, rows] * (weights @ (later * higher).T)).sum(1)
        pairs += (weights[:, rows] * (weights @ later.T.astype(float))).sum(1)
    return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
