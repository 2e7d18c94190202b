"""Mean of the tiles' logits, Wang et al. 2018, https://arxiv.org/abs/1610.02501.

mi-Net with mean pooling.
"""

import torch
from torch import Tensor

from mil.bags import Bags, HeadOutput, per_bag
from mil.heads._pooling import Pooling
from mil.heads._stream import PoolsTiles
from mil.heads._tile_classifier import TileClassifierConfig, tile_classifier
from mil.kernels.dispatch import at_least_float32


class Config(TileClassifierConfig):
    """Options of a recipe with `name: mean`."""


class Head(PoolsTiles):
    """Classify each tile, average the logits over the bag."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.classify = tile_classifier(config, dim, classes)

    def pool(self, bags: Bags) -> Pooling:
        """Mean logits [bags, 1, classes], and scores of zero: every tile counts the same."""
        tiles = at_least_float32(self.classify(bags.features))  # [tiles, classes]
        logits = torch.stack([rows.mean(0) for rows in per_bag(tiles, bags.offsets)])
        return Pooling(logits[:, None], tiles.new_zeros(tiles.shape[0], 1))

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        tiles = at_least_float32(self.classify(features))
        return Pooling(tiles[:, None], tiles.new_zeros(len(tiles), 1))

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """The pooled logits unchanged."""
        return HeadOutput(pooled[:, 0], scores)
