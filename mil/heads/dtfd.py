"""DTFD-MIL, Zhang et al. 2022, https://arxiv.org/abs/2203.12081.

A bag is split into pseudo-bags. Tier 1 is gated attention over each pseudo-bag; its
logits are `branch_logits`, trained by `branch_cross_entropy`. Tier 2 is gated attention
over the rows that tier 1 distils; its logits are `logits`, trained by `cross_entropy`.

The published code has an optimiser for each tier and applies no gradient of tier 2 to
tier 1. Here the distilled rows are detached from tier 1, so that one AdamW over both
does the same, except for two things: the recipe's `clip_norm` (the published 5) holds
for all gradients together, not for each module, and weight decay is AdamW's.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.bags import Bags, HeadOutput, log_attention, per_bag
from mil.heads._gated import GatedAttention, default_hidden
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.kernels.attn_pool import attn_pool

# Seed of the split outside training, where the published code draws a new one each
# time.
EVALUATION_SEED = 66


class Config(ReducerConfig):
    """Options of a recipe with `name: dtfd`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branches.")
    pseudo_bags: int = Field(
        4, gt=0, description="Number of pseudo-bags that a bag is divided into."
    )
    distill: Literal["max_min", "max", "attended"] = Field(
        "max_min",
        description="Features of a pseudo-bag passed to tier 2; max_min: its highest and lowest "
        "tile (MaxMinS); max: its highest (MaxS); attended: its pooled row (AFS).",
    )


class Head(nn.Module):
    """Reduce tiles, classify each pseudo-bag, distil rows from it, classify the bag by those.

    `scores` are tier 1's over the whole bag; tier 2 sees a handful of tiles. A tile is
    ranked in its pseudo-bag by what it adds to the last class against the others, as
    published. Outside training a bag of a given size is always split the same way. A
    bag of fewer tiles than pseudo-bags has one tile in each, some tiles in several.
    """

    for_classes = True  # a tile is ranked by the softmax over the classes
    ordered = True  # a tile's place in the bag decides its pseudo-bag

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.pseudo_bags = config.pseudo_bags
        self.distill = config.distill
        self.reduce = nn.Sequential(project(config, dim, hidden), nn.ReLU())
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
        # [bags * pseudo_bags, hidden]
        pooled = attn_pool(drawn_scores, drawn_hidden, offsets)[:, 0]
        rows = pooled
        if self.distill != "attended":
            rows = drawn_hidden[self._distilled(drawn_scores, drawn_hidden, offsets)]
        # No gradient of tier 2 reaches tier 1, as published.
        logits = self._classify_rows(rows.detach(), len(bags.offsets) - 1)
        branch_logits = self.pseudo_classify(pooled).unflatten(0, (-1, self.pseudo_bags))
        return HeadOutput(logits, scores, branch_logits)

    @torch.no_grad()
    def logits_held(self, bags: Bags) -> Callable[[Tensor], Tensor]:
        """Logits of each bag by the tiles that tier 2 sees now, or the pseudo-bags of now."""
        count = len(bags.offsets) - 1
        drawn, offsets = self._split(bags.offsets)
        distilled = drawn
        if self.distill != "attended":
            hidden = self.reduce(bags.features)[drawn]
            distilled = drawn[self._distilled(self.tile_attention(hidden), hidden, offsets)]

        def logits(features: Tensor) -> Tensor:
            rows = self.reduce(features[distilled])
            if self.distill == "attended":
                rows = attn_pool(self.tile_attention(rows), rows, offsets)[:, 0]
            return self._classify_rows(rows, count)

        return logits

    def _split(
        self, offsets: Int[Tensor, " bags_plus_1"]
    ) -> tuple[Int[Tensor, " drawn"], Int[Tensor, " pseudo_plus_1"]]:
        """Rows of the tiles, pseudo-bag by pseudo-bag, and the offsets of pseudo-bags."""
        parts: list[Tensor] = []
        for first, end in pairwise(offsets.tolist()):
            generator = None if self.training else torch.Generator().manual_seed(EVALUATION_SEED)
            rows = first + torch.randperm(end - first, generator=generator)
            # A bag of fewer tiles than pseudo-bags repeats them.
            repeats = -(-self.pseudo_bags // len(rows))
            enough = rows.repeat(repeats)[: max(len(rows), self.pseudo_bags)]
            parts += enough.tensor_split(self.pseudo_bags)
        sizes = torch.tensor([0, *map(len, parts)])
        return torch.cat(parts).to(offsets.device), sizes.cumsum(0).to(offsets.device)

    @torch.no_grad()
    def _distilled(
        self,
        scores: Float[Tensor, "drawn 1"],
        hidden: Float[Tensor, "drawn hidden"],
        offsets: Int[Tensor, " plus_1"],
    ) -> Int[Tensor, " distilled"]:
        """Numbers of the drawn tiles that tier 2 sees.

        Of each pseudo-bag the highest tile, and for `max_min` then the lowest.
        """
        attention = log_attention(scores, offsets).exp()
        evidence = functional.linear(hidden, self.pseudo_classify.weight)
        activation = attention * evidence  # [drawn, classes]
        # A tile's share of a large bag moves the softmax by less than single precision
        # holds.
        ranks = activation.double().softmax(-1)[:, -1]
        extremes = []
        for part in per_bag(ranks, offsets):
            numbers = [part.argmax()]
            if self.distill == "max_min":
                numbers.append(part.argmin())
            extremes.append(torch.stack(numbers))
        return (torch.stack(extremes) + offsets[:-1, None]).flatten()

    def _classify_rows(
        self, rows: Float[Tensor, "rows hidden"], bags: int
    ) -> Float[Tensor, "bags classes"]:
        """Tier 2, on rows of which each bag has the same number."""
        offsets = torch.arange(0, len(rows) + 1, len(rows) // bags, device=rows.device)
        pooled = attn_pool(self.row_attention(rows), rows, offsets)
        return self.classify(pooled[:, 0])
