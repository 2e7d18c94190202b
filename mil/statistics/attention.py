"""How even the attention of a slide is, and what that makes of a picture of it."""

import numpy as np
from jaxtyping import Float

# Entropy share above which ranks of attention must not be read as certainty.
ALMOST_UNIFORM = 0.98


def entropy_share(attention: Float[np.ndarray, " tiles"]) -> float | None:
    """Entropy of attention over the entropy of uniform attention, 0..1; None for one tile."""
    if len(attention) < 2:
        return None
    # 0 log 0 is 0.
    known = attention[attention > 0]
    # Relative, because bags differ in size and the largest possible entropy grows with
    # it.
    share = float(-(known * np.log(known)).sum() / np.log(len(attention)))
    # Attention in float32 may sum to a little more than 1.
    return min(share, 1.0)


def almost_uniform(share: float | None) -> str:
    """`attention almost uniform (entropy share 0.993)`; empty up to a share of 0.98.

    Args:
        share: See `entropy_share`; None: a slide of one tile.
    """
    if share is None or share <= ALMOST_UNIFORM:
        return ""
    return f"attention almost uniform (entropy share {share:.3f})"


def ranks_note(attention: Float[np.ndarray, " tiles"], ranks: str = "colours show ranks") -> str:
    """Caution about percentiles of almost uniform attention; empty for other attention.

    Percentiles spread over the whole scale however little attention differs.

    Args:
        attention: Attention of each tile; sums to 1.
        ranks: Words for what shows the percentiles.
    """
    note = almost_uniform(entropy_share(attention))
    if not note:
        return ""
    # In a large bag a few tiles may have many times the mean, and the entropy share is
    # high all the same.
    largest = float(attention.max()) * len(attention)
    return f"{note}: {ranks}; the largest value is {largest:.3g} × the mean"
