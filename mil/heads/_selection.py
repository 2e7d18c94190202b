"""Selection of a bag's tiles under a budget, differentiable for the others in training."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mil.bags import per_bag
from mil.heads._budget import SelectionConfig, budget
from mil.heads._soft_mask import straight_through, top_mask
from mil.kernels.attn_pool import attn_pool


class Selection(nn.Module):
    """Select each bag's highest tiles and pool those; in training with a gradient for all."""

    # Training steps so far: a buffer, so that a resumed training continues with it.
    steps: Tensor

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
        """The selected tiles, and the rows pooled from them.

        Args:
            scores: attention scores.
            hidden: rows to pool.
            offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
            rows: rows pooled from all tiles; they are the result if all are selected.
        """
        sizes = offsets.diff().tolist()
        counts = [budget(size, self.config) for size in sizes]
        if counts == sizes:
            return torch.ones(len(scores), dtype=torch.bool, device=scores.device), rows
        importances = [importance(bag) for bag in scores.split(sizes)]
        if not self.training:
            masks = [top_mask(bag, count) for bag, count in zip(importances, counts, strict=True)]
            selected = torch.cat(masks)
            return selected, pool_selected(scores, hidden, offsets, selected)
        masks = []
        pooled = []
        bags = zip(importances, counts, scores.split(sizes), hidden.split(sizes), rows, strict=True)
        for bag in bags:
            mask, bag_rows = self._select_softly(*bag)
            masks.append(mask)
            pooled.append(bag_rows)
        return torch.cat(masks), torch.stack(pooled)

    def _select_softly(
        self, importances: Tensor, count: int, scores: Tensor, hidden: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Selection and pooled rows of one bag in training."""
        if count == len(importances):
            return torch.ones_like(importances, dtype=torch.bool), rows
        noisy = self._noisy(importances)
        selected, mask = straight_through(noisy, count, self.config.temperature)
        return selected, pool_through(scores, hidden, selected, mask)

    def _noisy(self, importances: Tensor) -> Tensor:
        if not self.config.noise:
            return importances
        left = max(0.0, 1 - int(self.steps) / self.config.noise_steps)
        scale = self.config.noise * left
        if not scale:
            return importances
        # Minus the logarithm of an exponential is a Gumbel number.
        return importances - scale * torch.empty_like(importances).exponential_().log()


def importance(scores: Float[Tensor, "tiles branches"]) -> Float[Tensor, " tiles"]:
    """Ranking of a bag's tiles: log of the branches' mean attention; of one branch its scores."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    return scores.log_softmax(0).logsumexp(1) - math.log(scores.shape[1])


def pool_through(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    selected: Bool[Tensor, " tiles"],
    mask: Float[Tensor, " tiles"],
) -> Float[Tensor, "branches dim"]:
    """Pool a bag by the softmax over its selected tiles, with the gradient of `mask`.

    Args:
        scores: attention scores of the bag.
        features: rows to pool.
        selected: the selected tiles.
        mask: the same as 0 and 1, from `straight_through`.
    """
    m = scores.detach().masked_fill(~selected[:, None], -torch.inf).amax(0)
    # A tile that is not selected may still score higher than all that are; its gradient
    # is then that of the highest of them.
    z = (scores - m).clamp(max=0.0)
    p = mask[:, None].to(scores.dtype) * z.exp()
    attention = (p / p.sum(0)).to(features.dtype)
    return attention.mT @ features


def pool_selected(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    selected: Bool[Tensor, " tiles"],
) -> Float[Tensor, "bags branches dim"]:
    """Pool each bag by the softmax over its selected tiles, of which it has at least one."""
    counts = torch.stack([bag.sum() for bag in per_bag(selected, offsets)])
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return attn_pool(scores[selected], features[selected], bounds)
