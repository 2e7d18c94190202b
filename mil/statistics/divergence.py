"""How far one prediction is from another: Kullback-Leibler divergence, nats."""

import numpy as np
from jaxtyping import Float

# Least probability: one of 0 would be infinitely far.
LEAST = 1e-12


def kl_of_one(
    before: Float[np.ndarray, "n classes"], after: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " n"]:
    """Divergence of probabilities of classes that exclude one another.

    Args:
        before: Probabilities; each row sums to 1.
        after: Others of the same bags.
    """
    logs = np.log(np.maximum(before, LEAST)) - np.log(np.maximum(after, LEAST))
    # Rounding of alike rows may be below 0.
    return np.maximum((before * logs).sum(1), 0.0)


def kl_of_each(
    before: Float[np.ndarray, "n classes"], after: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " n"]:
    """Divergence of probabilities of independent classes, summed over them."""
    pairs = [
        kl_of_one(np.stack([one, 1 - one], 1), np.stack([other, 1 - other], 1))
        for one, other in zip(before.T, after.T, strict=True)
    ]
    return np.sum(pairs, axis=0)
