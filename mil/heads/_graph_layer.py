"""Attention of tiles to their neighbours in a graph, and how much of it each tile receives."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Graph
from mil.kernels.neighbour_attn import neighbour_attn

FLOOR = 1e-6  # of received attention, as a share of what is expected


class GraphLayer(nn.Module):
    """Residual GATv2: ``h + O · GATv2(LayerNorm(h))``. Brody et al. 2022, https://arxiv.org/abs/2105.14491.

    O starts as any layer, not as zero: from zero the prototype never learned what only
    neighbours tell.
    """

    def __init__(self, hidden: int, heads: int, slope: float) -> None:
        super().__init__()
        width = -(-hidden // heads)
        self.heads = heads
        self.slope = slope
        self.norm = nn.LayerNorm(hidden)
        self.query = nn.Linear(hidden, heads * width)
        self.key = nn.Linear(hidden, heads * width)
        self.vector = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, width)))
        self.out = nn.Linear(heads * width, hidden, bias=False)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(
        self, hidden: Float[Tensor, "tiles hidden"], graph: Graph
    ) -> tuple[Float[Tensor, "tiles hidden"], Float[Tensor, " edges"]]:
        """Tiles that have seen their neighbours, and the attention of each edge, mean over the heads."""
        normed = self.norm(hidden)
        queries, keys = (
            layer(normed).unflatten(1, (self.heads, -1)) for layer in (self.query, self.key)
        )
        messages, attention = neighbour_attn(
            queries, keys, self.vector, graph.sources, graph.targets, slope=self.slope
        )
        return hidden + self.out(messages.flatten(1)), attention


def log_received(
    attention: Sequence[Float[Tensor, " edges"]], graph: Graph, tiles: int
) -> Float[Tensor, " tiles"]:
    """Logarithm of the attention that each tile receives, over what it would if all were uniform.

    0 where attention tells nothing, however many tiles look at this one.

    Args:
        attention: of each layer; the softmax of every target sums to 1.
        graph: with an edge from every tile to itself.
        tiles: how many there are.
    """
    mean = torch.stack(list(attention)).mean(0)
    received = mean.new_zeros(tiles).index_add(0, graph.sources, mean)
    bounds = torch.searchsorted(graph.targets, torch.arange(tiles + 1, device=graph.targets.device))
    looks_at = bounds.diff().to(
        mean.dtype
    )  # as `bincount`, which waits for the device, would count them
    uniform = mean.new_zeros(tiles).index_add(0, graph.sources, 1 / looks_at[graph.targets])
    return (received / uniform).clamp_min(FLOOR).log()
