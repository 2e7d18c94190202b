"""Mean of the tiles' logits (mi-Net with mean pooling), Wang et al. 2018, https://arxiv.org/abs/1610.02501."""

import torch
from torch import nn

from mil.bags import per_bag
from mil.heads._precision import at_least_float32
from mil.heads._tile_classifier import TileConfig, tile_classifier
from mil.types import Bags, HeadOutput


class Config(TileConfig):
    """What a recipe with `name: mean` may set under `options`."""


class Head(nn.Module):
    """Classify each tile, average the logits over the bag."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.classify = tile_classifier(config, dim, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; it has no attention, so the scores are zero: every tile counts the same."""
        tiles = at_least_float32(self.classify(bags.features))  # [tiles, classes]
        logits = torch.stack([rows.mean(0) for rows in per_bag(tiles, bags.offsets)])
        return HeadOutput(logits, tiles.new_zeros(len(tiles), 1))
