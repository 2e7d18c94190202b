"""What every mixer takes: options, sizes, rows of the tiles, and where the tiles are."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from mil.bags import per_bag
from mil.config import Section
from mil.heads._shards import Shards


class MixOptions(Section):
    """Options that all mixers share."""

    heads: int = Field(
        8, gt=0, le=1024, description="Number of heads that the width of a tile is divided into."
    )
    query_heads: int | None = Field(
        None,
        gt=0,
        le=1024,
        description="Number of heads with queries, a multiple of key_heads; if unset, heads.",
    )
    key_heads: int | None = Field(
        None,
        gt=0,
        le=1024,
        description="Number of heads with keys and values; if unset, query_heads.",
    )
    routed: int = Field(
        0,
        ge=0,
        description="Number of heads that count for a tile besides the shared ones, chosen by "
        "the tile; 0: all heads count.",
    )
    shared: int = Field(
        0, ge=0, description="Number of heads that count for every tile, where heads are routed."
    )
    collapse: bool = Field(
        False, description="No key, value or output layer: a quarter of the parameters."
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> "MixOptions":
        queries, keys = self.num_heads
        if queries % keys:
            raise ValueError(
                f"query_heads: must be a multiple of key_heads ({keys}), not {queries}"
            )
        if self.collapse and (queries, keys) != (self.heads, self.heads):
            raise ValueError("collapse: needs as many query and key heads as heads")
        if self.shared and not self.routed:
            raise ValueError("shared: needs routed heads; set routed, or leave shared out")
        if self.routed + self.shared > queries:
            raise ValueError(
                f"routed: at most {queries - self.shared} heads can be chosen besides "
                f"{self.shared} shared ones, not {self.routed}"
            )
        return self

    @property
    def num_heads(self) -> tuple[int, int]:
        """Number of heads with queries, and with keys and values."""
        queries = self.query_heads or self.heads
        return queries, self.key_heads or queries


class Shape(NamedTuple):
    """Sizes of the rows that a mixer gets."""

    query_heads: int
    key_heads: int
    width: int


class Rows(NamedTuple):
    """Projected rows of the tiles of all bags."""

    queries: Float[Tensor, "tiles query_heads width"]
    keys: Float[Tensor, "tiles key_heads width"]
    values: Float[Tensor, "tiles key_heads value_width"]
    # Values by which a mixer chooses tiles; None: the values that it mixes.
    content: Float[Tensor, "tiles key_heads value_width"] | None = None


class Places(NamedTuple):
    """Bags, and the corners of their tiles in level-0 pixels, if known."""

    offsets: Int[Tensor, " bags_plus_1"]
    coords: Int[Tensor, "tiles 2"] | None
    # Processes that hold the other tiles of the bags; None: there are no others.
    shards: Shards | None = None

    def sizes(self) -> list[int]:
        """Number of tiles of each bag."""
        sizes: list[int] = self.offsets.diff().tolist()
        return sizes

    def bag_of(self) -> Int[Tensor, " tiles"]:
        """Number of each tile's bag."""
        sizes = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)


def bag_means(rows: Float[Tensor, "tiles *shape"], places: Places) -> Float[Tensor, "bags *shape"]:
    """Mean row of each bag."""
    if _one_at_a_time(rows, places):
        of_bags = per_bag(rows, places.offsets)
        return torch.stack([of_bag.mean(0) for of_bag in of_bags])
    return segment_means(rows, places.bag_of(), places.offsets.diff())


def for_tiles(
    of_bags: Float[Tensor, "bags *shape"], places: Places
) -> Float[Tensor, "tiles *shape"]:
    """Row of each tile's bag."""
    if _one_at_a_time(of_bags, places):
        pairs = zip(of_bags, places.sizes(), strict=True)
        return torch.cat([row.expand(size, *row.shape) for row, size in pairs])
    return of_bags.index_select(0, places.bag_of())


def _one_at_a_time(rows: Tensor, places: Places) -> bool:
    """Whether bags are taken one at a time: on a GPU sums by index have no fixed order."""
    return rows.device.type != "cpu" or len(places.offsets) == 2


def segment_means(
    rows: Float[Tensor, "rows *shape"],
    segment_of: Int[Tensor, " rows"],
    sizes: Int[Tensor, " segments"],
) -> Float[Tensor, "segments *shape"]:
    """Mean of the rows of each segment."""
    sums = rows.new_zeros(len(sizes), *rows.shape[1:]).index_add(0, segment_of, rows)
    return sums / sizes.view(-1, *[1] * (rows.dim() - 1))
