"""What crosses the borders between heads, losses and training."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Bags(NamedTuple):
    """Several bags laid end to end: no padding, no mask.

    Bag b is rows ``offsets[b]:offsets[b + 1]`` of ``features`` and ``coords`` (level-0 pixels, top left, x and y).
    """

    features: Float[Tensor, "tiles dim"]
    offsets: Int[Tensor, " bags_plus_1"]
    coords: Int[Tensor, "tiles 2"] | None = None


class HeadOutput(NamedTuple):
    """What every head returns, in every mode."""

    logits: Float[Tensor, "bags classes"]
    scores: Float[Tensor, "tiles branches"]  # attention before the softmax over a bag
    branch_logits: Float[Tensor, "bags branches classes"] | None = None
