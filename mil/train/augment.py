"""Batches of training: bags in the order of an epoch, of each some of the tiles and some of the features."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Bags, Graph
from mil.config import TrainConfig
from mil.train.bags import LabelledBag, Source, in_order, laid_out
from mil.train.precision import choose_dtype
from mil.train.sampling import epoch_order


def training_batches(
    bags: Source,
    labels: Sequence[str],
    config: TrainConfig,
    device: torch.device,
    chance: torch.Generator,
) -> Iterator[tuple[Bags, Tensor]]:
    """One epoch.

    Args:
        bags: to train with.
        labels: of each, as classes to be balanced.
        config: how.
        device: where the batches go.
        chance: what order, tiles and features are drawn from; all in this thread, bag
            by bag.
    """
    dtype = choose_dtype(config.precision, device)
    chosen = in_order(bags, epoch_order(labels, config, chance))
    return laid_out(
        (_changed(bag, config, dtype, chance) for bag in chosen), config.batch_bags, device, dtype
    )


def _changed(
    bag: LabelledBag, config: TrainConfig, dtype: torch.dtype, chance: torch.Generator
) -> LabelledBag:
    bag = some_tiles(bag, config.max_tiles, chance)
    if config.feature_dropout == 0:
        return bag
    return replace(
        bag, features=drop_features(bag.features.to(dtype), config.feature_dropout, chance)
    )


def some_tiles(bag: LabelledBag, most: int | None, chance: torch.Generator) -> LabelledBag:
    """A bag of at most so many of its tiles, drawn without replacement, in their order; None: all."""
    if most is None or len(bag.features) <= most:
        return bag
    rows = torch.randperm(len(bag.features), generator=chance)[:most].sort().values
    return replace(
        bag,
        features=bag.features[rows],
        coords=None if bag.coords is None else bag.coords[rows],
        graph=None if bag.graph is None else induced(bag.graph, rows, len(bag.features)),
    )


def induced(graph: Graph, rows: Int[Tensor, " kept"], tiles: int) -> Graph:
    """The edges between the tiles that are kept, with their new numbers; `rows` ascend, so the order stays sorted."""
    number = torch.full((tiles,), -1, dtype=graph.sources.dtype, device=graph.sources.device)
    number[rows] = torch.arange(len(rows), dtype=number.dtype, device=number.device)
    sources = number[graph.sources]
    targets = number[graph.targets]
    inside = (sources >= 0) & (targets >= 0)
    return Graph(sources[inside], targets[inside], graph.kinds[inside])


def drop_features(
    features: Float[Tensor, "tiles dim"], share: float, chance: torch.Generator
) -> Float[Tensor, "tiles dim"]:
    """Zero each dimension with that probability in all tiles of a bag alike; the rest grows by ``1 / (1 - share)``."""
    kept = torch.rand(features.shape[1], generator=chance) >= share
    return features * (kept / (1 - share)).to(features)
