"""P values corrected for the number of tests."""

import numpy as np
from jaxtyping import Float


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P values adjusted by Holm (1979, Scand. J. Stat. 6:65), in their order.

    They bound the probability of any false positive, however the tests depend on one
    another.
    """
    order = np.argsort(p, kind="stable")
    # An adjusted p is never below that of a smaller p.
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = steps.clip(max=1)
    return adjusted
