"""Logits of a bag without some of its tiles: what a head must give, and means over members."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Bags

# Bytes of rows of tiles that are kept; the rows of larger bags are computed again.
KEPT_BYTES = 256 << 20


class BothEnds(NamedTuple):
    """Logits of a bag of the first tiles of an order, and of the last ones, by their number."""

    first: Float[Tensor, "counts outputs"]
    last: Float[Tensor, "counts outputs"]


class Removals(ABC):
    """Logits of one head for one bag without some of its tiles; float64."""

    @abstractmethod
    def alone(self) -> Float[Tensor, "tiles outputs"]:
        """Logits of bags of a single tile."""

    @abstractmethod
    def effect(self) -> Float[Tensor, "tiles outputs"]:
        """Logits of the bag less those of the bag without the tile.

        Of a bag of one tile 0: there is no bag without it.
        """

    @abstractmethod
    def kept(self, order: Int[Tensor, " tiles"], counts: Sequence[int]) -> BothEnds:
        """Logits of bags that are the first or the last tiles of an order.

        Args:
            order: Numbers of all tiles.
            counts: Numbers of tiles that are left, at least 1 each.
        """


# Function of a bag.
Remover = Callable[[Bags], Removals]


class MeanRemovals(Removals):
    """Means over the members of a head."""

    def __init__(self, members: Sequence[Removals]) -> None:
        self.members = members

    def alone(self) -> Tensor:
        """See `Removals`."""
        return torch.stack([member.alone() for member in self.members]).mean(0)

    def effect(self) -> Tensor:
        """See `Removals`."""
        return torch.stack([member.effect() for member in self.members]).mean(0)

    def kept(self, order: Tensor, counts: Sequence[int]) -> BothEnds:
        """See `Removals`."""
        ends = [member.kept(order, counts) for member in self.members]
        first, last = (torch.stack(rows).mean(0) for rows in zip(*ends, strict=True))
        return BothEnds(first, last)


class MaxRemovals(Removals):
    """A head whose logits are the largest of the tiles', output by output."""

    def __init__(self, logits: Float[Tensor, "tiles outputs"]) -> None:
        self.logits = logits.double()

    def alone(self) -> Tensor:
        """See `Removals`."""
        return self.logits

    def effect(self) -> Tensor:
        """The largest less the second largest, for the largest; else 0."""
        effect = torch.zeros_like(self.logits)
        if len(effect) > 1:
            highest = self.logits.topk(2, dim=0)
            lost = highest.values[0] - highest.values[1]
            effect.scatter_(0, highest.indices[:1], lost[None])
        return effect

    def kept(self, order: Tensor, counts: Sequence[int]) -> BothEnds:
        """See `Removals`."""
        ordered = self.logits[order]
        rows = torch.tensor(counts) - 1
        first = ordered.cummax(0).values[rows]
        last = ordered.flip(0).cummax(0).values[rows]
        return BothEnds(first, last)
