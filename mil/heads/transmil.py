"""TransMIL, Shao et al. 2021, https://arxiv.org/abs/2106.00908: a transformer over all tiles with Nyström attention.

The tiles, in the order of the bag, are folded into a square, so that convolutions can
tell them where they are. The square is filled up with the first tiles; as published, it
has nothing to do with where tiles lie on the slide.
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
from mil.heads._nystrom import NystromAttention, Parts, attention_of_first
from mil.heads._precision import Classifier
from mil.kernels.dispatch import at_least_float32

LEAST_ATTENTION = (
    1e-12  # Nyström attention is not quite a probability: what is below counts as this
)


class Config(MhaConfig):
    """What a recipe with `name: transmil` may set under `options`."""

    landmarks: int | None = Field(
        None, gt=0, description="landmarks of Nyström attention; empty: half of hidden"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="after each attention")


class Head(nn.Module):
    """Reduce each tile, mix tiles and a class token by two attention layers, classify the class token.

    `scores` are the logarithm of the class token's attention to the tiles in the last
    layer, mean over heads, so that their softmax is that attention, made to sum to 1.
    What it attends to in itself and in the square's copies is left out.
    """

    ordered = True

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = config.width(dim)
        self.reduce = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.token = nn.Parameter(torch.randn(hidden))
        self.mix = _Layer(config, hidden)
        self.place = _Place(hidden)
        self.attention = _Layer(config, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.classify = Classifier(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; bags of one size go through together, others are squares of their own."""
        tiles = per_bag(self.reduce(bags.features), bags.offsets)
        found: dict[int, list[Tensor]] = {}
        for numbers in _same_size(tiles):
            rows, scores = self._rows_and_scores(torch.stack([tiles[number] for number in numbers]))
            found.update(
                {number: pair for number, *pair in zip(numbers, rows, scores, strict=True)}
            )
        pairs = [found[number] for number in range(len(tiles))]
        logits = self.classify(torch.stack([row for row, _ in pairs]))
        return HeadOutput(logits, torch.cat([seen for _, seen in pairs])[:, None])

    def _rows_and_scores(
        self, tiles: Float[Tensor, "bags tiles hidden"]
    ) -> tuple[Float[Tensor, "bags hidden"], Float[Tensor, "bags tiles"]]:
        """The class tokens in the end, and the scores."""
        count, size, _ = tiles.shape
        side = math.isqrt(size - 1) + 1
        copies = tiles[:, : side * side - size]
        tokens, _ = self.mix(torch.cat([self.token.expand(count, 1, -1), tiles, copies], dim=1))
        tokens, parts = self.attention(
            torch.cat([tokens[:, :1], self.place(tokens[:, 1:], side)], dim=1)
        )
        seen = attention_of_first(parts, tokens.shape[1])[:, 1 : size + 1]
        return self.norm(tokens[:, 0]), at_least_float32(seen).clamp(min=LEAST_ATTENTION).log()


def _same_size(bags: Sequence[Tensor]) -> Iterable[list[int]]:
    """Numbers of the bags of each size."""
    groups: dict[int, list[int]] = {}
    for number, bag in enumerate(bags):
        groups.setdefault(len(bag), []).append(number)
    return groups.values()


class _Layer(nn.Module):
    """Add to each token what attention over the normalised tokens makes of it."""

    def __init__(self, config: Config, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        landmarks = config.landmarks or max(1, hidden // 2)
        self.mix = NystromAttention(hidden, config.heads, landmarks, config.dropout)

    def forward(
        self, tokens: Float[Tensor, "bags tokens hidden"]
    ) -> tuple[Float[Tensor, "bags tokens hidden"], Parts]:
        mixed, parts = self.mix(self.norm(tokens))
        return tokens + mixed, parts


class _Place(nn.Module):
    """Position encoding (PPEG): each channel of the square plus its convolutions with kernels of 7, 5 and 3."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(hidden, hidden, 7, groups=hidden)
        self.middle = nn.Conv2d(
            hidden, hidden, 5, groups=hidden, bias=False
        )  # one bias is as good as three
        self.narrow = nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False)

    def forward(
        self, tokens: Float[Tensor, "bags tokens hidden"], side: int
    ) -> Float[Tensor, "bags tokens hidden"]:
        """Three convolutions at once, by the sum of their kernels."""
        kernel = self.wide.weight + _around(self.middle.weight, 1) + _around(self.narrow.weight, 2)
        square = tokens.mT.unflatten(2, (side, side))  # [bags, hidden, side, side]
        placed = functional.conv2d(
            square, kernel, self.wide.bias, padding=3, groups=tokens.shape[2]
        )
        return tokens + placed.flatten(2).mT


def _around(kernel: Tensor, zeros: int) -> Tensor:
    """A kernel with a frame of zeros, so that it fits a larger one."""
    return functional.pad(kernel, [zeros] * 4)
