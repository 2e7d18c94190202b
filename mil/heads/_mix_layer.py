"""A layer in which the tiles of a bag exchange information, by any mixer.

``h + s · dropout(W_o · mix(Q, K, V))`` of normalised tiles, with a constant s, without a
feed-forward network.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.errors import ConfigError
from mil.heads._dropout import Dropout
from mil.heads._mixers import (
    agent,
    dynamic_mask,
    full,
    hyper,
    landmark,
    neighbourhood,
    nystrom,
    uniform,
)
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape, bag_means
from mil.kernels.dispatch import at_least_float32

Mix = Annotated[
    agent.Options
    | dynamic_mask.Options
    | full.Options
    | hyper.Options
    | landmark.Options
    | neighbourhood.Options
    | nystrom.Options
    | uniform.Options,
    Field(discriminator="attention"),
]


class Mixed(NamedTuple):
    """Tiles after a layer."""

    tiles: Float[Tensor, "tiles hidden"]
    # Sum over routed heads of mean gate times share of tiles, over the number chosen;
    # 1 when even, for each bag. None without routing.
    balance: Float[Tensor, " bags"] | None


# By the options of each.
MIXERS: dict[type[MixOptions], Any] = {
    module.Options: module.Mixer  # type: ignore[attr-defined]
    for module in (agent, dynamic_mask, full, hyper, landmark, neighbourhood, nystrom, uniform)
}


def build_mixer(options: MixOptions, shape: Shape) -> nn.Module:
    """The mixer of these options."""
    mixer: nn.Module = MIXERS[type(options)](options, shape)
    return mixer


def is_ordered(options: MixOptions) -> bool:
    """Whether the mixer of these options depends on the order of a bag's tiles."""
    return bool(MIXERS[type(options)].ordered)


class MixLayer(nn.Module):
    """Layer norm, projections by head, mixer, output layer, and the tile itself added."""

    def __init__(
        self, options: MixOptions, hidden: int, dropout: float, context_scale: float = 1.0
    ) -> None:
        super().__init__()
        if hidden % options.heads:
            raise ConfigError(
                f"mix: hidden must be a multiple of heads ({options.heads}), not {hidden}"
            )
        query_heads, key_heads = options.num_heads
        self.shape = Shape(query_heads, key_heads, hidden // options.heads)
        self.collapse = options.collapse
        self.context_scale = context_scale
        self.norm = nn.LayerNorm(hidden)
        self.query = nn.Linear(hidden, query_heads * self.shape.width, bias=False)
        self.mix = build_mixer(options, self.shape)
        self.router = HeadRouter(options, hidden) if options.routed else None
        self.dropout = Dropout(dropout)
        if not options.collapse:
            self.key = nn.Linear(hidden, key_heads * self.shape.width, bias=False)
            self.value = nn.Linear(hidden, key_heads * self.shape.width, bias=False)
            self.out = nn.Linear(query_heads * self.shape.width, hidden)
            # Not zero, as residual layers often begin: context would never be learned.
            nn.init.xavier_uniform_(self.out.weight)

    def forward(self, tiles: Float[Tensor, "tiles hidden"], places: Places) -> Mixed:
        """Tiles with context."""
        mixed, balance = self._mixed(self.norm(tiles), places)
        return Mixed(self._with_context(tiles, mixed), balance)

    def without_each(
        self, tiles: Float[Tensor, "tiles hidden"], places: Places
    ) -> Iterator[Float[Tensor, "tiles hidden"]]:
        """Tiles with context, of which one head after the other brings nothing."""
        mixed, _ = self._mixed(self.norm(tiles), places)
        heads = torch.arange(mixed.shape[1], device=mixed.device)
        for head in heads:
            yield self._with_context(tiles, mixed * (heads != head)[:, None])

    def _mixed(self, normal: Tensor, places: Places) -> tuple[Tensor, Tensor | None]:
        """Mixed rows [tiles, heads, width], and the balance of routed heads."""
        mixed: Tensor = self.mix(self.rows(normal), places)
        if self.router is None:
            return mixed, None
        gates = self.router.gates(normal)
        weights = self.router.weights(normal, gates)
        return mixed * weights[..., None].to(mixed.dtype), self.router.balance(gates, places)

    def _with_context(self, tiles: Tensor, mixed: Tensor) -> Tensor:
        joined = mixed.flatten(1)
        context = joined if self.collapse else self.out(joined)
        return torch.add(tiles, self.dropout(context), alpha=self.context_scale)

    def rolled_out(
        self,
        attention: Float[Tensor, " tiles"],
        tiles: Float[Tensor, "tiles hidden"],
        places: Places,
    ) -> Float[Tensor, " tiles"]:
        """Attention to mixed tiles as attention to the tiles before: ``(a + s a P) / (1 + s)``.

        Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928, where s, the scale of the
        context, is 1: half is the tile itself.

        Args:
            attention: Attention to the tiles after this layer, one bag.
            tiles: Tiles before this layer.
            places: The bag.
        """
        normal = self.norm(tiles)
        weights = None if self.router is None else self.router(normal)
        mix = partial(self.mix, places=places)
        context = received(attention, mix, self.rows(normal), weights)
        return (attention + self.context_scale * context) / (1 + self.context_scale)

    def read_by_each(
        self,
        attention: Float[Tensor, " tiles"],
        tiles: Float[Tensor, "tiles hidden"],
        places: Places,
    ) -> Float[Tensor, "tiles heads"]:
        """Attention to the tiles that each head of the layer brings to attended ones: ``a P_h``.

        Args:
            attention: Attention to the tiles after this layer; of routed heads by their
                weight for each tile.
            tiles: Tiles before this layer.
            places: The bags.
        """
        normal = self.norm(tiles)
        heads = self.shape.query_heads
        by_head = attention[:, None].expand(-1, heads)
        if self.router is not None:
            by_head = by_head * self.router(normal)
        mix = partial(self.mix, places=places)
        rows = self.rows(normal)
        if self.shape.key_heads == heads:
            return received_by_each(by_head, mix, rows)
        # Several query heads read the values of one head.
        own = torch.eye(heads, dtype=by_head.dtype, device=by_head.device)
        columns = [received_by_each(by_head * head, mix, rows).sum(1) for head in own]
        return torch.stack(columns, 1)

    def rows(self, normal: Float[Tensor, "tiles hidden"]) -> Rows:
        """Queries, keys and values by head; collapsed, keys and values are the tiles."""
        by_head: Callable[[Tensor], Tensor] = lambda row: row.unflatten(1, (-1, self.shape.width))  # noqa: E731
        if self.collapse:
            own = by_head(normal)
            return Rows(by_head(self.query(normal)), own, own)
        return Rows(
            by_head(self.query(normal)), by_head(self.key(normal)), by_head(self.value(normal))
        )


def received(
    attention: Float[Tensor, " tiles"],
    mix: Callable[[Rows], Tensor],
    rows: Rows,
    weights: Float[Tensor, "tiles heads"] | None = None,
) -> Float[Tensor, " tiles"]:
    """Attention that tiles receive through a mixer: ``a P``, P the mean map of its heads.

    Mixed rows are ``P v``, so that one product of a vector with their Jacobian is enough,
    whatever the mixer, and no map is needed.

    Args:
        attention: Attention to the mixed tiles.
        mix: Mixed rows [tiles, heads, value width] of rows.
        rows: Projected rows of the tiles.
        weights: Weights of the heads of each tile; None: all alike.
    """
    if weights is None:
        weights = attention.new_ones(len(attention), rows.queries.shape[1])
    shares = weights / weights.sum(1, keepdim=True)
    return received_by_each(attention[:, None] * shares, mix, rows).sum(1)


def received_by_each(
    attention: Float[Tensor, "tiles heads"], mix: Callable[[Rows], Tensor], rows: Rows
) -> Float[Tensor, "tiles key_heads"]:
    """Attention that tiles receive through each head of values; see `received`.

    Args:
        attention: Attention to the mixed tiles by each query head.
        mix: Mixed rows [tiles, heads, value width] of rows.
        rows: Projected rows of the tiles.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # What was computed in inference mode takes part in no gradient: copies do.
        queries, keys, content = (row.detach().clone() for row in rows[:3])
        values = content.clone().requires_grad_()
        mixed = mix(Rows(queries, keys, values, content))
        towards = torch.zeros_like(mixed)
        # Any one channel of the values shows the map.
        towards[..., 0] = attention.clone()
        (gradient,) = torch.autograd.grad(mixed, values, towards)
    return gradient[..., 0]


class Gates(NamedTuple):
    """Gates of the routed heads of each tile."""

    values: Float[Tensor, "tiles routed"]  # softmax over the heads
    chosen: Float[Tensor, "tiles routed"]  # 1 for the heads that a tile chooses, else 0


class HeadRouter(nn.Module):
    """Weights of the heads for each tile, Jin et al. 2024, https://arxiv.org/abs/2410.11842.

    Shared heads count for every tile, and of the others those with the largest gates. A
    router that says nothing leaves a weight of 1 on every head that counts. As in the
    published code, which renormalises over the chosen heads.
    """

    def __init__(self, options: MixOptions, hidden: int) -> None:
        super().__init__()
        query_heads, _ = options.num_heads
        self.shared = options.shared
        self.chosen = options.routed
        self.gate = nn.Linear(hidden, query_heads - options.shared, bias=False)
        # A softmax over a single head is 1.
        several = options.shared > 1
        self.of_shared = nn.Linear(hidden, options.shared, bias=False) if several else None
        self.of_kinds = nn.Linear(hidden, 2, bias=False) if options.shared else None

    def forward(self, tiles: Float[Tensor, "tiles hidden"]) -> Float[Tensor, "tiles heads"]:
        """Weight of each head, shared ones first."""
        return self.weights(tiles, self.gates(tiles))

    def gates(self, tiles: Float[Tensor, "tiles hidden"]) -> Gates:
        """Gates of the routed heads, and the heads that each tile chooses."""
        values = _softmax(self.gate(tiles))
        largest = values.topk(self.chosen, dim=1).indices
        return Gates(values, torch.zeros_like(values).scatter(1, largest, 1.0))

    def weights(
        self, tiles: Float[Tensor, "tiles hidden"], gates: Gates
    ) -> Float[Tensor, "tiles heads"]:
        """Weight of each head, shared ones first, from the gates of these tiles."""
        kept = gates.values * gates.chosen
        routed = self.chosen * kept / kept.sum(1, keepdim=True)
        if self.of_kinds is None:
            return routed
        shared = torch.ones_like(routed[:, :1])
        if self.of_shared is not None:
            shared = self.shared * _softmax(self.of_shared(tiles))
        kinds = 2 * _softmax(self.of_kinds(tiles))
        return torch.cat([shared * kinds[:, :1], routed * kinds[:, 1:]], 1)

    def balance(self, gates: Gates, places: Places) -> Float[Tensor, " bags"]:
        """Number of routed heads times mean gate times share of tiles that chose a head.

        Summed over the heads and divided by the number of chosen ones: 1 when even.
        """
        shares = bag_means(gates.values, places) * bag_means(gates.chosen, places)
        return shares.sum(1) * gates.values.shape[1] / self.chosen


def _softmax(logits: Tensor) -> Tensor:
    return functional.softmax(at_least_float32(logits), dim=1)
