"""Linear probe of a slide's vector: mean of its tiles, or mean and standard deviation.

Fitted at once: logistic regression for classes, ridge regression for numbers, Cox
regression for survival. Nothing of it looks at single tiles, so that it tells what
attention adds. Every tile has the same attention; its effect on the logits is exact.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mil.bags import Bags, per_bag
from mil.heads._pooling import Pooling
from mil.heads._row_probe import RowProbe, RowProbeConfig
from mil.kernels.dispatch import at_least_float32

# Below it a standard deviation has no gradient: that of a bag of one tile.
SMALLEST_VARIANCE = 1e-12


class Config(RowProbeConfig):
    """Options of a recipe with `name: linear_probe`."""

    vector: Literal["mean", "mean_std"] = Field(
        "mean",
        description="Vector of a slide: mean of its tiles' features, or mean and standard "
        "deviation.",
    )


class Head(RowProbe):
    """Average the tiles, map the standardised average linearly."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        self.with_deviation = config.vector == "mean_std"
        super().__init__(config, 2 * dim if self.with_deviation else dim, classes)

    def pool(self, bags: Bags) -> Pooling:
        """Means [bags, 1, hidden], and scores of zero: every tile counts the same."""
        tiles = self._moments(bags.features)
        rows = torch.stack([tile_rows.mean(0) for tile_rows in per_bag(tiles, bags.offsets)])
        return Pooling(rows[:, None], tiles.new_zeros(tiles.shape[0], 1))

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        tiles = self._moments(features)
        return Pooling(tiles[:, None], tiles.new_zeros(len(tiles), 1))

    def row(self, pooled: Float[Tensor, "bags 1 hidden"]) -> Float[Tensor, "bags width"]:
        """Mean, or mean and standard deviation of the tiles."""
        moments = pooled[:, 0]
        if not self.with_deviation:
            return moments
        mean, squares = moments.chunk(2, dim=1)
        variance = (squares - mean.square()).clamp_min(SMALLEST_VARIANCE)
        return torch.cat([mean, variance.sqrt()], 1)

    def _moments(self, features: Tensor) -> Float[Tensor, "tiles hidden"]:
        """What is averaged over the tiles: features, and their squares for a deviation."""
        if not self.with_deviation:
            return at_least_float32(features)
        # The variance is a difference of means, of which float32 would leave little.
        tiles = features.double()
        return torch.cat([tiles, tiles.square()], 1)
