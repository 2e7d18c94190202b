"""Budget of tiles that a head may select: its options, and the number for a bag."""

import math

from pydantic import Field

from mil.config import Section


class SelectionConfig(Section):
    """Options of heads that select tiles."""

    keep_share: float = Field(
        0.05, gt=0, le=1, description="Fraction of a bag's tiles that is selected (kappa), 0 to 1."
    )
    keep_least: int = Field(
        16,
        gt=0,
        description="Smallest number of selected tiles (k_min); smaller bags are selected whole.",
    )
    keep_most: int | None = Field(
        512, gt=0, description="Largest number of selected tiles (k_max); if unset, no limit."
    )
    temperature: float = Field(
        0.5,
        gt=0,
        description="Temperature (T) of the soft threshold, nats: the distance from it within "
        "which tiles get a gradient.",
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="Scale of the Gumbel noise on the selection at the first step of training.",
    )
    noise_steps: int = Field(
        1000,
        gt=0,
        description="Number of training steps over which the selection's noise decays to zero.",
    )


def budget(tiles: int, config: SelectionConfig) -> int:
    """Number of a bag's tiles to select: a share, rounded up, within the limits."""
    # 0.07 * 100 is a little over 7, and must not become 8.
    count = math.ceil(config.keep_share * tiles - 1e-9)
    return min(max(count, config.keep_least), tiles, config.keep_most or tiles)
