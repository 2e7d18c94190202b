"""Gaussian adaptive attention (GAAM) as a pool, after Ioannides et al. 2024.

https://arxiv.org/abs/2401.11143. Each channel of a tile is weighted by a Gaussian about the
bag's mean of that channel, shifted by so many of the bag's standard deviations: a learned
statistic of each channel between mean, mode, minimum and maximum. Published, the weights
multiply the channels of a sequence; here they pool the bag, and are normalised over it.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, per_bag
from mil.heads._ablation import Ablated
from mil.heads._probe import ProbeConfig, RowClassifier, reducer
from mil.kernels.dispatch import at_least_float32

# Of a constant channel the variance is 0.
EPS_VARIANCE = 1e-5
# Published width of the Gaussians, in variances.
WIDTH = 2.0


class Config(ProbeConfig):
    """Options of a recipe with `name: gaam`."""

    gaussians: int = Field(
        2,
        gt=0,
        le=64,
        description="Number of Gaussians of a channel, at first 0, 2, -2, 4 ... standard "
        "deviations from its mean.",
    )


class Head(nn.Module):
    """Weight each channel of each tile, sum over the bag, classify the joint row."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        width = config.hidden or dim
        self.reduce = reducer(config, config.hidden, dim)
        starts = torch.tensor([_start(number) for number in range(config.gaussians)])
        self.shift = nn.Parameter(starts[:, None].repeat(1, width))
        self.log_width = nn.Parameter(torch.full((config.gaussians, width), WIDTH).log())
        self.classify = RowClassifier(config.gaussians * width, classes, norm=config.norm)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; the scores are the logarithm of the channels' mean weight."""
        tiles = at_least_float32(self.reduce(bags.features))
        pooled = [self.pooled(rows) for rows in per_bag(tiles, bags.offsets)]
        rows = torch.stack([row for row, _ in pooled])
        weights = torch.cat([weights.mean(1) for _, weights in pooled])
        # The weight of a far tile may underflow, and 0 has no logarithm.
        scores = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()[:, None]
        logits = self.classify(rows.flatten(1))
        parts = None if self.training else self.classify.parts(rows)
        return HeadOutput(logits, scores, branch_parts=parts)

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`; here each Gaussian is left out."""
        if len(self.shift) < 2:
            return None
        tiles = at_least_float32(self.reduce(bags.features))
        pooled = [self.pooled(rows) for rows in per_bag(tiles, bags.offsets)]
        rows = torch.stack([row for row, _ in pooled])
        return Ablated(
            self.classify(rows.flatten(1)),
            self.classify.without_each(rows),
            torch.cat([weights for _, weights in pooled]),
        )

    def pooled(
        self, rows: Float[Tensor, "tiles width"]
    ) -> tuple[Float[Tensor, "gaussians width"], Float[Tensor, "tiles gaussians"]]:
        """Row of a bag, and mean weight of each tile, by each Gaussian."""
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        standard = (rows - mean) / (variance + EPS_VARIANCE).sqrt()
        of_bag = []
        of_tiles = []
        # One Gaussian at a time: the weights of all would be as many bags in memory.
        for shift, log_width in zip(self.shift, self.log_width, strict=True):
            # In the log domain: weights that all underflow would sum to 0.
            scores = -(standard - shift).square() / (2 * log_width.exp())
            weights = scores.softmax(0)
            of_bag.append((weights * rows).sum(0))
            of_tiles.append(weights.mean(1))
        return torch.stack(of_bag), torch.stack(of_tiles, 1)


def _start(number: int) -> float:
    """First shift of a Gaussian: 0, 2, -2, 4, -4 ... standard deviations."""
    sign = 1.0 if number % 2 else -1.0
    return sign * 2.0 * ((number + 1) // 2)
