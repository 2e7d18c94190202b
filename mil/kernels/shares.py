"""Shares of a softmax on a CPU."""

from jaxtyping import Float
from torch import Tensor

# Difference to the largest score whose share, 1e-28, is lost in any sum of shares.
LEAST_DIFFERENCE = -64.0


def exp_(differences: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``exp`` of differences to the largest score, in place; at least 1e-28.

    Where the result would be 0, as of a masked score, the exponential takes twenty times as
    long as elsewhere.
    """
    return differences.clamp_(min=LEAST_DIFFERENCE).exp_()
