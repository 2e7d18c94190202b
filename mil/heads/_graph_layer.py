"""Attention of tiles to their neighbours in a graph, and the attention each receives."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Graph
from mil.kernels.neighbour_attn import neighbour_attn

# Least received attention, relative to uniform attention: bounds the logarithm.
FLOOR = 1e-6


class GraphLayer(nn.Module):
    """Residual GATv2: ``h + s · O · GATv2(LayerNorm(h))``, with a constant s.

    Brody et al. 2022, https://arxiv.org/abs/2105.14491. O is initialised as any layer,
    not as zero: from zero, the prototype never learned what only neighbours show. A
    smaller s slows what is learned from neighbours, by which few slides are told apart
    without the tiles that matter.
    """

    def __init__(self, hidden: int, heads: int, slope: float, message_scale: float) -> None:
        super().__init__()
        # Rounded up: hidden need not be a multiple of heads.
        width = -(-hidden // heads)
        self.heads = heads
        self.slope = slope
        self.message_scale = message_scale
        self.norm = nn.LayerNorm(hidden)
        self.query = nn.Linear(hidden, heads * width)
        self.key = nn.Linear(hidden, heads * width)
        self.vector = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, width)))
        self.out = nn.Linear(heads * width, hidden, bias=False)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(
        self, hidden: Float[Tensor, "tiles hidden"], graph: Graph
    ) -> tuple[Float[Tensor, "tiles hidden"], Float[Tensor, " edges"]]:
        """Updated tiles, and the attention of each edge, mean over the heads."""
        normed = self.norm(hidden)
        queries = self.query(normed).unflatten(1, (self.heads, -1))
        keys = self.key(normed).unflatten(1, (self.heads, -1))
        messages, attention = neighbour_attn(
            queries, keys, self.vector, graph.sources, graph.targets, slope=self.slope
        )
        update = self.out(messages.flatten(1))
        return torch.add(hidden, update, alpha=self.message_scale), attention


def log_received(
    attention: Sequence[Float[Tensor, " edges"]], graph: Graph, tiles: int
) -> Float[Tensor, " tiles"]:
    """Logarithm of the attention that each tile receives, relative to uniform attention.

    It is 0 where all attention is uniform, whatever the number of edges from the tile.

    Args:
        attention: attention of each layer; sums to 1 over the edges into a tile.
        graph: graph with an edge from every tile to itself.
        tiles: number of tiles.
    """
    mean = torch.stack(list(attention)).mean(0)
    received = mean.new_zeros(tiles).index_add(0, graph.sources, mean)
    # Edges into each tile; `bincount` would count them too, but waits for the device.
    tile_numbers = torch.arange(tiles + 1, device=graph.targets.device)
    bounds = torch.searchsorted(graph.targets, tile_numbers)
    degrees = bounds.diff().to(mean.dtype)
    uniform = mean.new_zeros(tiles).index_add(0, graph.sources, 1 / degrees[graph.targets])
    return (received / uniform).clamp_min(FLOOR).log()
