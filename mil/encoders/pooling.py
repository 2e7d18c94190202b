"""Pooling of a model's tokens to one feature vector per tile."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TokenPooling(nn.Module):
    """A timm model of tokens with the pooling that its authors publish.

    Args:
        model: timm model whose `forward_features` returns tokens [tiles, prefix +
            patches, dim]: first the class token, if it has one, then register tokens,
            then the patch tokens.
        pooling: `cls`: the class token; `mean`: mean of the patch tokens; `cls+mean`:
            both, concatenated.

    Raises:
        ValueError: The model has no tokens, or no class token.
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
        """Features of a batch of normalised tiles."""
        tokens: Tensor = self.model.forward_features(pixels)
        # Register tokens belong to neither part: the authors of DINOv2 discard them.
        first_patch = self.model.num_prefix_tokens
        pooled: list[Tensor] = []
        for part in self.parts:
            if part == "cls":
                pooled.append(tokens[:, 0])
            else:
                pooled.append(tokens[:, first_patch:].mean(1))
        return torch.cat(pooled, dim=1)
