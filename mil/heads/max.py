"""Largest of the tiles' logits, Wang et al. 2018, https://arxiv.org/abs/1610.02501.

mi-Net with max pooling.
"""

import torch
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, per_bag
from mil.heads._removals import KEPT_BYTES, MaxRemovals, Remover
from mil.heads._stream import ColumnMaxima
from mil.heads._tile_classifier import TileClassifierConfig, tile_classifier


class Config(TileClassifierConfig):
    """Options of a recipe with `name: max`."""


class Head(nn.Module):
    """Classify each tile, take each class's largest logit over the bag."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.classify = tile_classifier(config, dim, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; the scores are the tiles' logits, class by class."""
        tiles = self.classify(bags.features)  # [tiles, classes]
        logits = torch.stack([rows.amax(0) for rows in per_bag(tiles, bags.offsets)])
        return HeadOutput(logits, tiles, per_class=True)

    def part(self, features: Tensor) -> tuple[ColumnMaxima, Tensor]:
        """See `mil.heads.Streams`."""
        tiles: Tensor = self.classify(features)
        return ColumnMaxima(tiles.amax(0)), tiles

    def remover(self, room: int = KEPT_BYTES) -> Remover:
        """See `mil.heads.RemovesTiles`."""
        return lambda bags: MaxRemovals(self.classify(bags.features))

    def conclude(self, part: ColumnMaxima, scores: Tensor) -> HeadOutput:
        """See `mil.heads.Streams`."""
        return HeadOutput(part.row[None], scores, per_class=True)
