"""Integrated gradients of a bag's logits, for heads whose tiles attend to one another.

Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, eq. 1: ``(x - x') times the
mean gradient on the straight line from x' to x``, summed over a tile's features. The
baseline x' is a bag of as many tiles that are all the bag's mean tile: to replace a tile
by the mean of the others is, for attention, close to removing it. The sum over the tiles
is the logits of the bag less those of the baseline (completeness), up to the error of
the integral. What a head selects or ranks is held as it is for the bag
(`mil.heads.HoldsChoices`): on the line its logits would jump.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags, join_graphs
from mil.heads import HoldsChoices

# Numbers of points on the line (Gauss-Legendre), until the sum is close enough.
POINTS = (8, 20, 62, 126)
# Tiles at all points beyond which no more points are tried: a bag of 10 000 tiles has 20.
MOST_TILES = 400_000
# Tiles of points that are computed at once, each as a bag: of small bags many.
TILES_AT_ONCE = 4096
# Largest relative error of the sum at which no more points are tried.
TOLERANCE = 0.01
# Share of the error that more points may leave, or still more are not tried: beside
# kinks of a logit they hardly help.
WORTHWHILE = 1.0


# Logits [bags, outputs] of bags of one size by their features.
Logits = Callable[[Tensor], Tensor]


class Attribution(NamedTuple):
    """Integrated gradients of a bag, float64."""

    of_tiles: Float[Tensor, "tiles outputs"]
    # Logits of the bag less those of the baseline.
    change: Float[Tensor, " outputs"]

    @property
    def error(self) -> float:
        """Error of the sum over tiles, relative to the largest change of a logit."""
        missing = (self.of_tiles.sum(0) - self.change).abs().max()
        return float(missing / self.change.abs().max().clamp_min(torch.finfo(torch.float32).eps))


def integrated_gradients(members: Sequence[tuple[nn.Module, Bags]]) -> Attribution:
    """Integrated gradients of the mean of some heads' logits for one bag.

    Memory is that of one step of training on the bag, or on some thousand tiles.

    Args:
        members: Heads in evaluation mode, each with the bag as it takes it, with its
            graph if it needs one: the graph is that of the bag at every point.
    """
    tiles = len(members[0][1].features)
    change = torch.stack([_change(head, bags) for head, bags in members]).mean(0)
    best: Attribution | None = None
    for points in POINTS:
        if best is not None and points * tiles > MOST_TILES:
            break
        of_tiles = [_integrated(head, bags, points) for head, bags in members]
        found = Attribution(torch.stack(of_tiles).mean(0), change)
        before = np.inf if best is None else best.error
        if best is None or found.error < before:
            best = found
        if best.error <= TOLERANCE or found.error > WORTHWHILE * before:
            break
    assert best is not None
    return best


def _baseline(features: Tensor) -> Tensor:
    return features.mean(0, dtype=torch.float64).to(features.dtype).expand_as(features)


@torch.no_grad()
def _change(head: nn.Module, bags: Bags) -> Float[Tensor, " outputs"]:
    """Logits of the bag less those of the baseline."""
    logits_of = _function(head, bags)
    ends = [logits_of(end)[0].double() for end in (bags.features, _baseline(bags.features))]
    return ends[0] - ends[1]


def _integrated(head: nn.Module, bags: Bags, points: int) -> Float[Tensor, "tiles outputs"]:
    """Integrated gradients of one head by some points."""
    features = bags.features
    baseline = _baseline(features)
    step = features - baseline
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(points))
    at_once = max(1, TILES_AT_ONCE // len(features))
    totals: list[Tensor] = []
    # What a head selects is computed once for as many points, not each time.
    functions: dict[int, Logits] = {}
    with _frozen(head):
        # Nodes and weights are those of the interval from -1 to 1.
        for some, shares in zip((nodes + 1).split(at_once), weights.split(at_once), strict=True):
            count = len(some)
            if count not in functions:
                functions[count] = _function(head, _repeated(bags, count))
            places = (some / 2).to(features.dtype)[:, None, None]
            at = torch.lerp(baseline, features, places).flatten(0, 1).requires_grad_()
            slopes = _gradients(functions[count], at)
            totals.append(torch.stack([_weighted(slope, step, shares / 2) for slope in slopes], 1))
    return torch.stack(totals).sum(0)


def _weighted(
    slope: Float[Tensor, "points_tiles dim"],
    step: Float[Tensor, "tiles dim"],
    weights: Float[Tensor, " points"],
) -> Float[Tensor, " tiles"]:
    """Weighted sum over points of the gradient along the line."""
    along = (slope.unflatten(0, (len(weights), -1)) * step).sum(2, dtype=torch.float64)
    return weights @ along


def _repeated(bags: Bags, times: int) -> Bags:
    """One bag several times."""
    if times == 1:
        return bags
    tiles = len(bags.features)
    return Bags(
        bags.features.repeat(times, 1),
        torch.arange(times + 1) * tiles,
        None if bags.coords is None else bags.coords.repeat(times, 1),
        None if bags.graph is None else join_graphs([bags.graph] * times, [tiles] * times),
    )


def _function(head: nn.Module, bags: Bags) -> Logits:
    """Logits of the bags as a function of their features."""
    if isinstance(head, HoldsChoices):
        return head.logits_held(bags)

    def logits(features: Tensor) -> Tensor:
        of_bags: Tensor = head(bags._replace(features=features)).logits
        return of_bags

    return logits


def _gradients(logits_of: Logits, features: Tensor) -> Iterator[Float[Tensor, "tiles dim"]]:
    """Gradient of each logit, of its own bag: other bags do not touch it."""
    with torch.enable_grad():
        logits = logits_of(features).sum(0).unbind()
    for number, logit in enumerate(logits):
        more = number + 1 < len(logits)
        (slope,) = torch.autograd.grad(logit, features, retain_graph=more)
        yield slope


@contextmanager
def _frozen(head: nn.Module) -> Iterator[None]:
    """Parameters without a gradient, which would take time and memory."""
    learned = [parameter for parameter in head.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
