"""DTFD-MIL, Zhang et al. 2022, https://arxiv.org/abs/2203.12081: pseudo-bags, then a bag of what was found in them.

Tier 1 is gated attention over each pseudo-bag; its answers are `branch_logits`, trained
by `branch_cross_entropy`. Tier 2 is gated attention over the rows that tier 1 distils;
its answers are `logits`, trained by `cross_entropy`.

The published code has an optimiser for each tier and applies no gradient of tier 2 to
tier 1. Here the distilled rows are cut off from tier 1, so that one AdamW over both
does the same, but for two things: the recipe's `clip_norm` (the published 5) holds for
all gradients together, not for each module, and weight decay is AdamW's.
"""

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import Bags, HeadOutput, log_attention, per_bag
from mil.config import Section
from mil.heads._gated import GatedAttention, default_hidden
from mil.heads._precision import Classifier
from mil.kernels.attn_pool import attn_pool

EVALUATION_SEED = (
    66  # of the split outside training, where the published code draws a new one each time
)


class Config(Section):
    """What a recipe with `name: dtfd` may set under `options`."""

    hidden: int | None = Field(
        None, gt=0, description="width after the reducer; empty: half of the features' length"
    )
    attention: int = Field(128, gt=0, description="width of the attention branches")
    pseudo_bags: int = Field(4, gt=0, description="number of pseudo-bags a bag is split into")
    distill: Literal["max_min", "max", "attended"] = Field(
        "max_min",
        description="what of a pseudo-bag goes to tier 2: its highest and lowest tile (MaxMinS), its highest (MaxS), "
        "or its pooled row (AFS)",
    )


class Head(nn.Module):
    """Reduce each tile, answer for each pseudo-bag, distil rows from them, answer for the bag from those.

    `scores` are tier 1's over the whole bag; tier 2 sees a handful of tiles. A tile is
    ranked in its pseudo-bag by what it adds to the last class against the others, as
    published. Outside training a bag of a given size is always split the same way. A
    bag of fewer tiles than pseudo-bags has one tile in each, some tiles in several.
    """

    for_classes = True  # a tile is ranked by the softmax over the classes
    ordered = True  # a tile's place decides which pseudo-bag it falls into

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.pseudo_bags = config.pseudo_bags
        self.distill = config.distill
        self.reduce = nn.Sequential(nn.Linear(dim, hidden, bias=False), nn.ReLU())
        self.tile_attention = GatedAttention(hidden, config.attention, 1)
        self.pseudo_classify = Classifier(hidden, classes)
        self.row_attention = GatedAttention(hidden, config.attention, 1)
        self.classify = Classifier(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        scores = self.tile_attention(hidden)  # [tiles, 1]
        drawn, offsets = self._split(bags.offsets)
        drawn_hidden = hidden[drawn]
        drawn_scores = scores[drawn]
        pooled = attn_pool(drawn_scores, drawn_hidden, offsets)[
            :, 0
        ]  # [bags * pseudo_bags, hidden]
        attended = self.distill == "attended"
        rows = (
            pooled if attended else drawn_hidden[self._found(drawn_scores, drawn_hidden, offsets)]
        )
        logits = self._answer(rows.detach(), len(bags.offsets) - 1)
        return HeadOutput(
            logits, scores, self.pseudo_classify(pooled).unflatten(0, (-1, self.pseudo_bags))
        )

    def _split(
        self, offsets: Int[Tensor, " bags_plus_1"]
    ) -> tuple[Int[Tensor, " drawn"], Int[Tensor, " pseudo_plus_1"]]:
        """Rows of the tiles, pseudo-bag by pseudo-bag, and where each of those begins."""
        parts: list[Tensor] = []
        for first, end in pairwise(offsets.tolist()):
            generator = None if self.training else torch.Generator().manual_seed(EVALUATION_SEED)
            places = first + torch.randperm(end - first, generator=generator)
            enough = places.repeat(-(-self.pseudo_bags // len(places)))[
                : max(len(places), self.pseudo_bags)
            ]
            parts += enough.tensor_split(self.pseudo_bags)
        sizes = torch.tensor([0, *map(len, parts)])
        return torch.cat(parts).to(offsets.device), sizes.cumsum(0).to(offsets.device)

    @torch.no_grad()
    def _found(
        self,
        scores: Float[Tensor, "drawn 1"],
        hidden: Float[Tensor, "drawn hidden"],
        offsets: Int[Tensor, " plus_1"],
    ) -> Int[Tensor, " found"]:
        """Which of the drawn tiles go to tier 2: of each pseudo-bag the highest, then the lowest if wanted."""
        attention = log_attention(scores, offsets).exp()
        activation = attention * functional.linear(
            hidden, self.pseudo_classify.weight
        )  # [drawn, classes]
        # A tile's share of a large bag moves the softmax by less than single precision
        # holds.
        ranks = activation.double().softmax(-1)[:, -1]
        found = [
            torch.stack([part.argmax(), part.argmin()])
            if self.distill == "max_min"
            else part.argmax()[None]
            for part in per_bag(ranks, offsets)
        ]
        return (torch.stack(found) + offsets[:-1, None]).flatten()

    def _answer(
        self, rows: Float[Tensor, "rows hidden"], bags: int
    ) -> Float[Tensor, "bags classes"]:
        """Tier 2: as many rows of each bag."""
        offsets = torch.arange(0, len(rows) + 1, len(rows) // bags, device=rows.device)
        return self.classify(attn_pool(self.row_attention(rows), rows, offsets)[:, 0])
