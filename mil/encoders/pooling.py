"""Pooling of a model's tokens, and of its scales, to one feature vector per tile."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class TokenPooling(nn.Module):
    """A timm model of tokens with the pooling that its authors publish.

    Args:
        model: timm model whose `forward_features` returns tokens [tiles, prefix +
            patches, dim]: first the class token, if it has one, then register tokens,
            then the patch tokens. If it has a module `projection`, that follows.
        pooling: `cls`: the class token; `mean`: mean of the patch tokens; `cls+mean`:
            both, concatenated; `attention`: the projection pools all tokens.

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
        self.projects = hasattr(model, "projection")

    def forward(self, pixels: Float[Tensor, "tiles 3 height width"]) -> Float[Tensor, "tiles dim"]:
        """Features of a batch of normalised tiles."""
        tokens: Tensor = self.model.forward_features(pixels)
        if self.parts == ["attention"]:
            attended: Tensor = self.model.projection(tokens)
            return attended
        # Register tokens belong to neither part: the authors of DINOv2 discard them.
        first_patch = self.model.num_prefix_tokens
        pooled: list[Tensor] = []
        for part in self.parts:
            if part == "cls":
                pooled.append(tokens[:, 0])
            else:
                pooled.append(tokens[:, first_patch:].mean(1))
        feature = torch.cat(pooled, dim=1)
        return self.model.projection(feature) if self.projects else feature


class MultiScale(nn.Module):
    """A model that sees each tile at several magnifications (Shi et al. 2024, S2).

    At magnification k the tile is enlarged k times (bicubic) and cut into k x k squares
    of its first size; their features are averaged. Xiang et al. 2025 (MUSK) use 1 and 2
    for multiple-instance learning.

    Args:
        model: Model of normalised tiles.
        scales: Magnifications; their features are concatenated.
    """

    def __init__(self, model: nn.Module, scales: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.scales = tuple(scales)

    def forward(self, pixels: Float[Tensor, "tiles 3 side side"]) -> Float[Tensor, "tiles dim"]:
        """Features of a batch of normalised tiles."""
        return torch.cat([self._at(scale, pixels) for scale in self.scales], dim=1)

    def _at(self, scale: int, pixels: Tensor) -> Tensor:
        if scale == 1:
            same: Tensor = self.model(pixels)
            return same
        tiles, channels, side, _ = pixels.shape
        enlarged = functional.interpolate(pixels, size=(side * scale,) * 2, mode="bicubic")
        grid = enlarged.reshape(tiles, channels, scale, side, scale, side)
        squares = grid.permute(2, 4, 0, 1, 3, 5).reshape(-1, channels, side, side)
        features: Tensor = self.model(squares)
        return features.unflatten(0, (scale * scale, tiles)).mean(0)
