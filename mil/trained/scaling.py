"""Scaling of features before a head: standardised, or whitened principal components.

Both are fitted to tiles without their labels, and saved with the head, which takes the
features of bags as they are.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Tiles that are converted to float64 at once.
CHUNK_TILES = 8192
# Tiles from which principal components are computed, evenly spread over the bags: their
# products take longer than an epoch of training where there are millions.
MAX_TILES = 50_000
# Variance of a component, as a share of the largest, below which it is rounding: products
# of float32 leave some 1e-8 where there is none, as of fewer tiles than components.
SMALLEST_VARIANCE = 1e-6


class ZScore(nn.Module):
    """Features standardised by the tiles that a member was trained on.

    Args:
        dim: Number of features per tile.

    Attributes:
        mean: Mean of each feature over the training tiles, [dim].
        deviation: Standard deviation of each, 1 for a constant feature, [dim].
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    @classmethod
    def fitted(cls, bags: Iterable[Float[Tensor, "_ dim"]], dim: int) -> "ZScore":
        """Mean and deviation of the tiles of all bags.

        Args:
            bags: Features of each bag; each is read once.
            dim: Number of features per tile.
        """
        zscore = cls(dim)
        count = 0
        mean = torch.zeros(dim, dtype=torch.float64)
        squares = torch.zeros(dim, dtype=torch.float64)
        # Merged part by part (Chan et al. 1983): a sum of squares would cancel where the
        # mean is large beside the deviation.
        chunks = (chunk for features in bags for chunk in features.split(CHUNK_TILES))
        for chunk in chunks:
            tiles = chunk.double().cpu()
            shift = tiles.mean(0) - mean
            total = count + len(tiles)
            squares += tiles.var(0, correction=0) * len(tiles)
            squares += shift.square() * (count * len(tiles) / total)
            mean += shift * (len(tiles) / total)
            count = total
        deviation = (squares / max(count, 1)).sqrt()
        zscore.mean.copy_(mean)
        zscore.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))
        return zscore

    def forward(self, features: Float[Tensor, "tiles dim"]) -> Float[Tensor, "tiles dim"]:
        """Standardised features in float32, or float64 if they are."""
        return (features - self.mean) / self.deviation


class Whitening(nn.Module):
    """The largest principal components of the training tiles, each of variance 1.

    Gradient descent learns along directions of large variance first. On lymph node tiles
    4 of 1280 components hold 45 % of the variance but little of what tells tumour apart
    (docs/results/composite.md), and heads learn the training slides by heart along them.
    Whitened, every direction is learned at the same rate.

    Args:
        dim: Number of features per tile.
        components: Number of components, at most `dim`.

    Attributes:
        mean: Mean of each feature over the tiles, [dim].
        projection: Principal axes over the components' standard deviations,
            [dim, components]; zero for a component without variance.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("projection", torch.zeros(dim, components))

    @classmethod
    def fitted(
        cls, bags: Iterable[Float[Tensor, "_ dim"]], num_bags: int, dim: int, components: int
    ) -> "Whitening":
        """Components of the tiles of all bags.

        Args:
            bags: Features of each bag; each is read once.
            num_bags: Number of bags.
            dim: Number of features per tile.
            components: Number of components, at most `dim`.
        """
        whitening = cls(dim, components)
        per_bag = max(1, MAX_TILES // max(num_bags, 1))
        tiles = torch.cat([_evenly(features, per_bag).float().cpu() for features in bags])
        mean = tiles.mean(0, dtype=torch.float64)
        centred = tiles - mean.float()
        # Products of float32 and their sum in float64, chunk by chunk.
        covariance = torch.zeros(dim, dim, dtype=torch.float64)
        for chunk in centred.split(CHUNK_TILES):
            covariance += (chunk.T @ chunk).double()
        variances, axes = torch.linalg.eigh(covariance / max(len(tiles), 1))
        variances = variances.flip(0)[:components]
        axes = _signed(axes.flip(1)[:, :components])
        kept = variances > variances[0].clamp_min(0) * SMALLEST_VARIANCE
        scales = torch.where(kept, variances.clamp_min(1e-300).rsqrt(), 0.0)
        whitening.mean.copy_(mean)
        whitening.projection.copy_(axes * scales)
        return whitening

    def forward(self, features: Float[Tensor, "tiles dim"]) -> Float[Tensor, "tiles components"]:
        """Components of each tile in float32, or float64 if features are."""
        dtype = torch.promote_types(features.dtype, self.mean.dtype)
        # In full precision also under autocast: rounding would grow with the scale.
        with torch.autocast(features.device.type, enabled=False):
            return (features.to(dtype) - self.mean) @ self.projection.to(dtype)


FeatureScaling = ZScore | Whitening


def empty_scaling(dim: int, *, whiten: int | None, zscore: bool) -> FeatureScaling | None:
    """Scaling of a recipe before it is fitted or loaded; None where it has none.

    Args:
        dim: Number of features per tile.
        whiten: Number of whitened components; None: no whitening.
        zscore: Whether features are standardised.
    """
    if whiten is not None:
        return Whitening(dim, min(whiten, dim))
    return ZScore(dim) if zscore else None


def equal_scalings(one: nn.Module, other: nn.Module) -> bool:
    """Whether two scalings of one kind scale alike."""
    pairs = zip(one.buffers(), other.buffers(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def _evenly(features: Tensor, count: int) -> Tensor:
    """About `count` tiles of a bag, evenly spread over it."""
    # A copy where tiles are left out: a view would keep the whole bag in memory.
    return features[:: -(-len(features) // count)].contiguous()


def _signed(axes: Float[Tensor, "dim components"]) -> Float[Tensor, "dim components"]:
    """Axes whose largest entry is positive: their sign is otherwise left to the machine."""
    rows = axes.abs().argmax(0, keepdim=True)
    return axes * axes.gather(0, rows).sign()
