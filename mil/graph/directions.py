"""Tiles as unit vectors about a centre, so that the product of two is their cosine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Directions computed at a time: features stay as they are stored, possibly in float16.
ROWS = 4096


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """No gradients and no autocast.

    A head trained in half precision must get the graph that it gets in float32.
    """
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


class Directions:
    """Directions of a bag's tiles, float32, computed when they are indexed."""

    def __init__(
        self, features: Float[Tensor, "tiles dim"], centre: Float[Tensor, " dim"] | None = None
    ) -> None:
        """Directions of `features - centre`.

        Args:
            features: features of one bag.
            centre: mean of the training tiles; None: the bag's own mean.
        """
        # Features of an encoder share a large mean: about zero, all would point the
        # same way.
        self.features = features
        if centre is None:
            self.centre = _mean(features)
        else:
            self.centre = centre.to(features.device, torch.float32)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
        """Directions of those tiles; zero for a tile at the centre."""
        offsets = (self.features[rows] - self.centre).float()
        # The minimum keeps a tile at the centre from being NaN.
        return offsets.div_(offsets.norm(dim=1, keepdim=True).clamp_(min=1e-12))

    def blocks(self) -> Iterator[Float[Tensor, "rows dim"]]:
        """All directions, `ROWS` at a time."""
        return (self[first : first + ROWS] for first in range(0, len(self), ROWS))


def _mean(features: Tensor) -> Tensor:
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for rows in features.split(ROWS):
        total += rows.float().sum(0)
    return (total / len(features)).float()
