"""A budget of tiles that a head answers from: its options, and the choice in training and outside."""

import math

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.config import Section
from mil.heads._selection import importance, pool_selected, pool_through, straight_through, top_mask


class SelectionConfig(Section):
    """Options of heads that select tiles."""

    keep_share: float = Field(
        0.05, gt=0, le=1, description="Fraction of a bag's tiles that is selected (kappa), 0 to 1."
    )
    keep_least: int = Field(
        16,
        gt=0,
        description="Smallest number of selected tiles (k_min); smaller bags are selected whole.",
    )
    keep_most: int | None = Field(
        512, gt=0, description="Largest number of selected tiles (k_max); if unset, no limit."
    )
    temperature: float = Field(
        0.5,
        gt=0,
        description="Temperature (T) of the soft threshold, nats: the distance from it within "
        "which tiles get a gradient.",
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="Scale of the Gumbel noise on the selection at the first step of training.",
    )
    noise_steps: int = Field(
        1000,
        gt=0,
        description="Number of training steps over which the noise on the selection decays to zero.",
    )


def budget(tiles: int, config: SelectionConfig) -> int:
    """How many of a bag's tiles may be selected: a share, rounded up, in bounds; never more than there are."""
    share = math.ceil(config.keep_share * tiles - 1e-9)  # 0.07 * 100 is a little over 7
    return min(max(share, config.keep_least), tiles, config.keep_most or tiles)


class Selection(nn.Module):
    """Select each bag's highest tiles and pool those; in training with a gradient for the others."""

    steps: (
        Tensor  # of training so far; a buffer, so that a training that is taken up goes on with it
    )

    def __init__(self, config: SelectionConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(
        self,
        scores: Float[Tensor, "tiles branches"],
        hidden: Float[Tensor, "tiles hidden"],
        offsets: Int[Tensor, " bags_plus_1"],
        rows: Float[Tensor, "bags branches hidden"],
    ) -> tuple[Bool[Tensor, " tiles"], Float[Tensor, "bags branches hidden"]]:
        """Which tiles are selected, and what is pooled from them; `rows` are what is pooled from all."""
        sizes = offsets.diff().tolist()
        counts = [budget(size, self.config) for size in sizes]
        if counts == sizes:
            return torch.ones(len(scores), dtype=torch.bool, device=scores.device), rows
        ranked = [importance(bag) for bag in scores.split(sizes)]
        if not self.training:
            selected = torch.cat(
                [top_mask(bag, count) for bag, count in zip(ranked, counts, strict=True)]
            )
            return selected, pool_selected(scores, hidden, offsets, selected)
        bags = zip(ranked, counts, scores.split(sizes), hidden.split(sizes), rows, strict=True)
        chosen, pooled = zip(*(self._softly(*bag) for bag in bags), strict=True)
        return torch.cat(chosen), torch.stack(pooled)

    def _softly(
        self, ranked: Tensor, count: int, scores: Tensor, hidden: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The selection of one bag in training."""
        if count == len(ranked):
            return torch.ones_like(ranked, dtype=torch.bool), row
        chosen, mask = straight_through(self._noisy(ranked), count, self.config.temperature)
        return chosen, pool_through(scores, hidden, chosen, mask)

    def _noisy(self, ranked: Tensor) -> Tensor:
        if not self.config.noise:
            return ranked
        scale = self.config.noise * max(0.0, 1 - int(self.steps) / self.config.noise_steps)
        return ranked - scale * torch.empty_like(ranked).exponential_().log() if scale else ranked
