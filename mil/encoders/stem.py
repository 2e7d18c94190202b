"""Stems that published encoders put before a timm model in place of its patch embedding."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class ConvStem(nn.Module):
    """Convolutional stem of CTransPath's Swin, Wang et al. 2022, section 3.2.

    Two 3x3 convolutions of stride 2 with batch normalisation and ReLU, then a 1x1
    convolution: a token for each 4 x 4 pixels, as from the patches that it replaces.

    Args:
        img_size: Side, or height and width, of a tile, pixels.
        patch_size: Pixels a token, 4.
        in_chans: Channels of a tile.
        embed_dim: Length of a token, a multiple of 8.
        norm_layer: Constructor of the normalisation of tokens; None: none.
        ignored: What timm gives to any patch embedding and this one has no use for.

    Raises:
        ValueError: The patch size is not 4.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Callable[[int], nn.Module] | None = None,
        **ignored: Any,
    ) -> None:
        super().__init__()
        if patch_size != 4:
            raise ValueError(f"a ConvStem has a token for 4 x 4 pixels, not {patch_size}")
        # timm reads both from a patch embedding.
        self.patch_size = (4, 4)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grid_size = (height // 4, width // 4)
        layers: list[nn.Module] = []
        channels = in_chans
        for wider in (embed_dim // 8, embed_dim // 4):
            layers.append(nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(wider))
            layers.append(nn.ReLU(inplace=True))
            channels = wider
        layers.append(nn.Conv2d(channels, embed_dim, 1))
        self.proj = nn.Sequential(*layers)
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(
        self, pixels: Float[Tensor, "tiles channels height width"]
    ) -> Float[Tensor, "tiles rows columns dim"]:
        """Tokens of a batch of normalised tiles, as timm's Swin takes them."""
        tokens: Tensor = self.norm(self.proj(pixels).permute(0, 2, 3, 1))
        return tokens


STEMS = {"ConvStem": ConvStem}
