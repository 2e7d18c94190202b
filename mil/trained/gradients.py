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

from mil.bags import Bags
from mil.heads import HoldsChoices

# Numbers of points on the line (Gauss-Legendre), until the sum is close enough.
POINTS = (8, 20, 62, 126)
# Tiles at all points beyond which no more points are tried: a bag of 10 000 tiles has 20.
MOST_TILES = 400_000
# Largest relative error of the sum at which no more points are tried.
TOLERANCE = 0.01


# Logits [1, outputs] of a bag by its features.
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

    Memory is that of one step of training on the bag.

    Args:
        members: Heads in evaluation mode, each with the bag as it takes it, with its
            graph if it needs one: the graph is that of the bag at every point.
    """
    totals: Attribution | None = None
    tiles = len(members[0][1].features)
    for points in POINTS:
        if totals is not None and points * tiles > MOST_TILES:
            break
        attributions = [_integrated(head, bags, points) for head, bags in members]
        totals = Attribution(
            *(torch.stack(part).mean(0) for part in zip(*attributions, strict=True))
        )
        if totals.error <= TOLERANCE:
            break
    assert totals is not None
    return totals


def _integrated(head: nn.Module, bags: Bags, points: int) -> Attribution:
    with _frozen(head):
        features = bags.features
        logits_of = _function(head, bags)
        baseline = features.mean(0, dtype=torch.float64).to(features.dtype).expand_as(features)
        step = features - baseline
        gradient: list[Tensor] = []
        nodes, weights = np.polynomial.legendre.leggauss(points)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            # Nodes and weights are those of the interval from -1 to 1.
            at = torch.lerp(baseline, features, (node + 1) / 2).requires_grad_()
            for output, slope in enumerate(_gradients(logits_of, at)):
                scaled = (slope * step).sum(1, dtype=torch.float64) * (weight / 2)
                if output == len(gradient):
                    gradient.append(torch.zeros_like(scaled))
                gradient[output] += scaled
        with torch.no_grad():
            ends = [logits_of(end)[0] for end in (features, baseline)]
        return Attribution(torch.stack(gradient, 1), (ends[0] - ends[1]).double())


def _function(head: nn.Module, bags: Bags) -> Logits:
    """Logits of the bag as a function of its features."""
    if isinstance(head, HoldsChoices):
        return head.logits_held(bags)

    def logits(features: Tensor) -> Tensor:
        of_bags: Tensor = head(bags._replace(features=features)).logits
        return of_bags

    return logits


def _gradients(logits_of: Logits, features: Tensor) -> Iterator[Float[Tensor, "tiles dim"]]:
    """Gradient of each logit."""
    with torch.enable_grad():
        logits = logits_of(features)[0].unbind()
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
