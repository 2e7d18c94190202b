"""From a model's tokens to one vector a tile, whatever the model itself would do."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Pooled(nn.Module):
    """A timm model of tokens, pooled as its authors publish it.

    Args:
        model: a timm model whose `forward_features` gives tokens [tiles, prefix +
            patches, dim]: the class token, if it has one, stands first, register tokens
            follow, then the patches.
        pooling: `cls`: the class token; `mean`: of the patch tokens; `cls+mean`: both,
            one after the other.

    Raises:
        ValueError: the model has no tokens, or no class token.
    """

    def __init__(self, model: nn.Module, pooling: str) -> None:
        super().__init__()
        if not hasattr(model, "num_prefix_tokens"):
            raise ValueError(f"pooling {pooling} needs a model of tokens, which this one is not")
        if "cls" in pooling and getattr(model, "cls_token", None) is None:
            raise ValueError(f"pooling {pooling} needs a class token, which this model lacks")
        self.model: Any = model
        self.parts = pooling.split("+")

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Float[Tensor, "tiles dim"]:
        """Features of a batch of tiles."""
        tokens: Tensor = self.model.forward_features(pixels)
        pooled = {
            "cls": lambda: tokens[:, 0],
            "mean": lambda: tokens[:, self.model.num_prefix_tokens :].mean(1),
        }
        return torch.cat([pooled[part]() for part in self.parts], dim=1)
