"""Attention pooling over tiles that have exchanged information: mixing layers, then ABMIL.

Which tiles attend to which is an option, `mix`: all to all, or one of the published ways to
save work. Without layers it is ABMIL. The layer is a transformer's without its feed-forward
network; see `mil/heads/_mixers` for the sources of the mixers.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, log_attention, per_bag
from mil.errors import ConfigError
from mil.heads._ablation import Ablated
from mil.heads._dropout import Dropout
from mil.heads._gated import GatedAttention, default_hidden
from mil.heads._mix_layer import Mix, MixLayer, is_ordered
from mil.heads._mixers.base import Places
from mil.heads._mixers.landmark import Options as LandmarkOptions
from mil.heads._nystrom import MIN_ATTENTION
from mil.heads._pooling import pool_by
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.heads._shards import Shards


class Config(ReducerConfig):
    """Options of a recipe with `name: mixed_abmil`."""

    hidden: int | None = Field(
        None,
        gt=0,
        description="Width after the reducer, a multiple of the heads; if unset, half of the "
        "feature dimension, rounded up to one.",
    )
    attention: int = Field(128, gt=0, description="Width of the attention branch.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after the reducer and before the score, 0 to 1."
    )
    layers: int = Field(1, ge=0, le=100, description="Number of mixing layers (L); 0: ABMIL.")
    mix: Mix = Field(
        LandmarkOptions(attention="landmark"),
        description="Rule by which tiles attend to each other: `attention` and its options.",
    )
    mix_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout after a layer, 0 to 1.")
    context_scale: float = Field(
        1.0, gt=0, le=1, description="Factor of what a layer adds to a tile, 0 to 1."
    )

    def width(self, dim: int) -> int:
        """Width after the reducer, for features of `dim` numbers."""
        if self.hidden is not None or not self.layers:
            return default_hidden(self.hidden, dim)
        return -(-default_hidden(None, dim) // self.mix.heads) * self.mix.heads


class _Step(NamedTuple):
    """What a layer meets."""

    tiles: Float[Tensor, "tiles hidden"]  # before the layer
    attention: Float[Tensor, " tiles"]  # to the tiles after it


class Head(nn.Module):
    """Reduce each tile, mix the tiles of a bag, score, pool, classify."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = config.width(dim)
        self.reduce = nn.Sequential(
            project(config, dim, hidden), nn.ReLU(), Dropout(config.dropout)
        )
        self.layers = nn.ModuleList(
            MixLayer(config.mix, hidden, config.mix_dropout, config.context_scale)
            for _ in range(config.layers)
        )
        # A mixer that takes runs of the bag's order depends on it.
        self.ordered = config.layers > 0 and is_ordered(config.mix)
        self.attention = GatedAttention(hidden, config.attention, 1, config.dropout)
        self.classify = Classifier(hidden, classes)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; the scores are of the mixed tiles."""
        return self._output(bags, None)

    def forward_shard(self, bags: Bags, shards: Shards) -> HeadOutput:
        """See `mil.heads.InShards`."""
        for module in self.layers:
            layer = cast(MixLayer, module)
            # The balance of heads is that of a whole bag.
            if layer.router is not None or not getattr(layer.mix, "in_shards", False):
                raise ConfigError(
                    "head mixed_abmil: mix: needs all tiles of a bag in one process; "
                    "attention: uniform, and agent with learned agents, do not, without routed"
                )
        return self._output(bags, shards)

    def _output(self, bags: Bags, shards: Shards | None) -> HeadOutput:
        tiles = self.reduce(bags.features)
        places = Places(bags.offsets, bags.coords, shards)
        balances = []
        for layer in self.layers:
            tiles, balance = layer(tiles, places)
            balances.append(balance)
        scores = self.attention(tiles)
        pooled = pool_by(scores, tiles, bags.offsets)
        if shards is not None:
            pooled = shards.pooled(pooled, bags.offsets)
        of_layers = [balance for balance in balances if balance is not None]
        return HeadOutput(
            self.classify(pooled.rows[:, 0]),
            scores,
            head_balance=_mean(of_layers),
            attention_stats=pooled.stats,
        )

    def rollout(self, bags: Bags) -> Float[Tensor, " tiles"] | None:
        """Attention to the tiles before they were mixed: whose features the logits came from.

        See `mil.heads.MixesTiles`.
        """
        if not len(self.layers):
            return None
        places = Places(bags.offsets, bags.coords)
        first, step = self._steps(bags)[0]
        return _shares(first.rolled_out(step.attention, step.tiles, places), bags.offsets)

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`; here each query head of each layer is left out.

        Its attention is to the tiles whose features it brings to attended ones.
        """
        if not len(self.layers):
            return None
        places = Places(bags.offsets, bags.coords)
        without = []
        attention = []
        for number, (layer, step) in enumerate(self._steps(bags)):
            after = self.layers[number + 1 :]
            mixed = layer.without_each(step.tiles, places)
            without += [self._logits(tiles, bags, after) for tiles in mixed]
            read = layer.read_by_each(step.attention, step.tiles, places)
            attention += [_shares(of_head, bags.offsets) for of_head in read.unbind(1)]
        if len(without) < 2:
            return None
        whole = self(bags).logits
        return Ablated(whole, torch.stack(without, 1), torch.stack(attention, 1))

    def _logits(self, tiles: Tensor, bags: Bags, layers: Iterable[nn.Module]) -> Tensor:
        """Logits of tiles that are still to pass some layers."""
        places = Places(bags.offsets, bags.coords)
        for layer in layers:
            tiles = layer(tiles, places).tiles
        pooled = pool_by(self.attention(tiles), tiles, bags.offsets)
        logits: Tensor = self.classify(pooled.rows[:, 0])
        return logits

    def _steps(self, bags: Bags) -> list[tuple[MixLayer, _Step]]:
        """Each layer, with the tiles before it and the attention to the tiles after it."""
        layers = [cast(MixLayer, layer) for layer in self.layers]
        tiles = self.reduce(bags.features)
        places = Places(bags.offsets, bags.coords)
        before = []
        for layer in layers:
            before.append(tiles)
            tiles = layer(tiles, places).tiles
        attention = log_attention(self.attention(tiles), bags.offsets).exp()[:, 0]
        steps = []
        for layer, of_layer in zip(reversed(layers), reversed(before), strict=True):
            steps.append((layer, _Step(of_layer, attention)))
            attention = layer.rolled_out(attention, of_layer, places)
        return steps[::-1]


def _shares(attention: Tensor, offsets: Tensor) -> Tensor:
    """Attention that sums to 1 over each bag."""
    # Nyström attention is not quite a probability.
    positive = attention.clamp(min=MIN_ATTENTION)
    return torch.cat([of_bag / of_bag.sum() for of_bag in per_bag(positive, offsets)])


def _mean(balances: list[Tensor]) -> Tensor | None:
    return torch.stack(balances).mean(0) if balances else None
