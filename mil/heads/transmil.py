"""TransMIL, Shao et al. 2021, https://arxiv.org/abs/2106.00908.

A transformer over all tiles with Nyström attention. The tiles, in the order of the bag,
are folded into a square, so that convolutions can encode their positions in it. The
square is filled up with the first tiles; as published, it has nothing to do with the
tiles' positions on the slide.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import Bags, HeadOutput, per_bag
from mil.heads._mha import MhaConfig
from mil.heads._nystrom import MIN_ATTENTION, NystromAttention, NystromFactors, attention_of_first
from mil.heads._precision import Classifier
from mil.heads._reducer import project
from mil.kernels.dispatch import at_least_float32


class Config(MhaConfig):
    """Options of a recipe with `name: transmil`."""

    landmarks: int | None = Field(
        None,
        gt=0,
        description="Number of landmarks of Nyström attention; if unset, half of hidden.",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout after each attention layer, 0 to 1."
    )


class Head(nn.Module):
    """Reduce tiles, mix them and a class token by two attention layers, classify the token.

    `scores` are the logarithm of the class token's attention to the tiles in the last
    layer, mean over heads, so that their softmax is that attention, scaled to sum
    to 1. Its attention to itself and to the square's copies is left out.
    """

    ordered = True  # a tile's place in the bag is its place in the square

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = config.width(dim)
        self.reduce = nn.Sequential(project(config, dim, hidden, bias=True), nn.ReLU())
        self.token = nn.Parameter(torch.randn(hidden))
        self.mix = NystromLayer(config, hidden)
        self.place = PositionEncoding(hidden)
        self.attention = NystromLayer(config, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.classify = Classifier(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; bags of equal size are computed together."""
        tiles = per_bag(self.reduce(bags.features), bags.offsets)
        row_of: dict[int, Tensor] = {}
        scores_of: dict[int, Tensor] = {}
        for numbers in _same_size(tiles):
            # A single bag is not copied.
            alone = len(numbers) == 1
            batch = tiles[numbers[0]][None] if alone else torch.stack([tiles[n] for n in numbers])
            rows, scores = self._rows_and_scores(batch)
            row_of.update(zip(numbers, rows, strict=True))
            scores_of.update(zip(numbers, scores, strict=True))
        bag_numbers = range(len(tiles))
        logits = self.classify(torch.stack([row_of[number] for number in bag_numbers]))
        scores = torch.cat([scores_of[number] for number in bag_numbers])
        return HeadOutput(logits, scores[:, None])

    def _rows_and_scores(
        self, tiles: Float[Tensor, "bags tiles hidden"]
    ) -> tuple[Float[Tensor, "bags hidden"], Float[Tensor, "bags tiles"]]:
        """Class tokens after both layers, and scores."""
        count, size, _ = tiles.shape
        # Smallest square that holds all tiles.
        side = math.isqrt(size - 1) + 1
        copies = tiles[:, : side * side - size]
        class_tokens = self.token.expand(count, 1, -1)
        mixed = self.mix(torch.cat([class_tokens, tiles, copies], dim=1))
        first, square = mixed.split([1, side * side], dim=1)
        # Only the class token is read from here on.
        last, factors = self.attention.first(torch.cat([first, self.place(square, side)], dim=1))
        attention = attention_of_first(factors, 1 + side * side)[:, 1 : size + 1]
        return self.norm(last[:, 0]), at_least_float32(attention).clamp(min=MIN_ATTENTION).log()


def _same_size(bags: Sequence[Tensor]) -> Iterable[list[int]]:
    """Numbers of the bags, grouped by size."""
    groups: dict[int, list[int]] = {}
    for number, bag in enumerate(bags):
        groups.setdefault(len(bag), []).append(number)
    return groups.values()


class NystromLayer(nn.Module):
    """Residual attention: ``x + attention(LayerNorm(x))``."""

    def __init__(self, config: Config, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        landmarks = config.landmarks or max(1, hidden // 2)
        self.mix = NystromAttention(hidden, config.heads, landmarks, config.dropout)

    def forward(
        self, tokens: Float[Tensor, "bags tokens hidden"]
    ) -> Float[Tensor, "bags tokens hidden"]:
        """All tokens."""
        mixed: Tensor = self.mix(self.norm(tokens))
        return tokens + mixed

    def first(
        self, tokens: Float[Tensor, "bags tokens hidden"]
    ) -> tuple[Float[Tensor, "bags 1 hidden"], NystromFactors]:
        """The first token alone, and the factors of its attention."""
        row, factors = self.mix.first(self.norm(tokens))
        return tokens[:, :1] + row, factors


class PositionEncoding(nn.Module):
    """PPEG: each channel of the square, plus its convolutions of widths 7, 5 and 3."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(hidden, hidden, 7, groups=hidden)
        # Published with three biases, of which only the sum matters.
        self.middle = nn.Conv2d(hidden, hidden, 5, groups=hidden, bias=False)
        self.narrow = nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False)

    def forward(
        self, tokens: Float[Tensor, "bags tokens hidden"], side: int
    ) -> Float[Tensor, "bags tokens hidden"]:
        """Tokens plus three convolutions at once, by the sum of their kernels."""
        kernel = self.wide.weight + _framed(self.middle.weight, 1) + _framed(self.narrow.weight, 2)
        square = tokens.mT.unflatten(2, (side, side))  # [bags, hidden, side, side]
        channels = tokens.shape[2]
        placed = functional.conv2d(square, kernel, self.wide.bias, padding=3, groups=channels)
        return tokens + placed.flatten(2).mT


def _framed(kernel: Tensor, zeros: int) -> Tensor:
    """A kernel with a frame of zeros, as large as a wider one."""
    return functional.pad(kernel, [zeros] * 4)
