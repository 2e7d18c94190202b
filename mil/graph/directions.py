"""Tiles as directions: features less a centre, at length 1, so that a product of two is their cosine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 4096  # made at a time: features stay as they are stored, in float16 perhaps


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """No gradients, and no half precision where a head is trained in it: one graph for every precision."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


class Directions:
    """Directions of a bag's tiles, float32, made when they are asked for."""

    def __init__(
        self, features: Float[Tensor, "tiles dim"], centre: Float[Tensor, " dim"] | None = None
    ) -> None:
        """Centre is the mean of the training tiles; None: the bag's own mean.

        Features of an encoder share a large mean: about zero they would all point the
        same way.
        """
        self.features = features
        self.centre = (
            _mean(features) if centre is None else centre.to(features.device, torch.float32)
        )

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        """Those tiles' directions; zero for a tile at the centre."""
        away = (self.features[rows] - self.centre).float()
        return away.div_(away.norm(dim=1, keepdim=True).clamp_(min=1e-12))

    def blocks(self) -> Iterator[Float[Tensor, "rows dim"]]:
        """All directions in turn, a block of rows at a time."""
        return (self[first : first + ROWS] for first in range(0, len(self), ROWS))


def _mean(features: Tensor) -> Tensor:
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for rows in features.split(ROWS):
        total += rows.float().sum(0)
    return (total / len(features)).float()
