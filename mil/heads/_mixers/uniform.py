"""Control: every tile gets the mean of its bag's values, whatever the queries and keys."""

from typing import Literal

from torch import Tensor, nn

from mil.heads._mixers.base import MixOptions, Places, Rows, Shape, bag_means, for_tiles


class Options(MixOptions):
    """Options of `attention: uniform`."""

    attention: Literal["uniform"]


class Mixer(nn.Module):
    """One context for all tiles of a bag: a mixer that does not beat it used no tile's content."""

    ordered = False
    # Whether the tiles of a bag may lie in several processes; other mixers have none.
    in_shards = True

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.per_key_head = shape.query_heads // shape.key_heads

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        values = rows.values.repeat_interleave(self.per_key_head, 1)
        means = bag_means(values, places)
        if places.shards is not None:
            # A mean is attention by equal scores, whose log-sum-exp is the log of the count.
            lse = values.new_tensor(places.sizes()).log()[:, None].expand(-1, values.shape[1])
            means = places.shards.merged(means, lse).rows
        return for_tiles(means, places)
