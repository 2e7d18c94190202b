"""Sampling of an epoch: the order of its bags, and the tiles and features of each."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Bags, Graph
from mil.config import TrainConfig
from mil.train.data import BagSource, LabelledBag, collate, in_order
from mil.train.precision import choose_dtype


def bags_per_epoch(labels: Sequence[str], config: TrainConfig) -> int:
    """Number of bags in an epoch.

    Args:
        labels: Label of each training bag.
        config: Section `train` of the recipe; `sampling` matters.
    """
    if config.sampling == "shuffle":
        return len(labels)
    # Rounded down, so that all labels come equally often.
    num_labels = len(set(labels))
    return num_labels * (len(labels) // num_labels)


def epoch_order(labels: Sequence[str], config: TrainConfig, rng: torch.Generator) -> list[int]:
    """Indices of the bags in the order of one epoch.

    Shuffled, each bag comes once. Balanced, each label comes equally often: of a common
    label some bags are left out in this epoch; bags of a rare label are repeated, each
    as often as any other or once more.

    Args:
        labels: Label of each training bag.
        config: Section `train` of the recipe; `sampling` matters.
        rng: Random state of the order.
    """
    if config.sampling == "shuffle":
        return torch.randperm(len(labels), generator=rng).tolist()
    # By first appearance, not by name: renaming a label must not change a head.
    indices_by_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        indices_by_label.setdefault(label, []).append(index)
    per_label = len(labels) // len(indices_by_label)
    drawn = torch.cat(
        [_draw(torch.tensor(indices), per_label, rng) for indices in indices_by_label.values()]
    )
    # So far the bags are grouped by label.
    return drawn[torch.randperm(len(drawn), generator=rng)].tolist()


def _draw(indices: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`count` of the indices in random order; a repeat only after all were drawn."""
    rounds = -(-count // len(indices))
    shuffled = [indices[torch.randperm(len(indices), generator=rng)] for _ in range(rounds)]
    return torch.cat(shuffled)[:count]


def training_batches(
    bags: BagSource,
    labels: Sequence[str],
    config: TrainConfig,
    device: torch.device,
    rng: torch.Generator,
) -> Iterator[tuple[Bags, Tensor]]:
    """Batches of one epoch, with tiles and features dropped as the recipe asks.

    Args:
        bags: Training bags.
        labels: Label of each, for balanced sampling.
        config: Section `train` of the recipe.
        device: Device of the batches.
        rng: Random state of order, tiles and features. It is used in the calling thread
            alone, bag by bag, so that reading ahead does not change the draws.

    Yields:
        Concatenated bags and their stacked targets.
    """
    dtype = choose_dtype(config.precision, device)
    ordered = in_order(bags, epoch_order(labels, config, rng))
    augmented = (_augment(bag, config, dtype, rng) for bag in ordered)
    return collate(augmented, config.batch_bags, device, dtype)


def _augment(
    bag: LabelledBag, config: TrainConfig, dtype: torch.dtype, rng: torch.Generator
) -> LabelledBag:
    bag = sample_tiles(bag, config.max_tiles, rng)
    # Without dropout nothing may be drawn: an option that is off changes no bit.
    if config.feature_dropout == 0:
        return bag
    features = drop_features(bag.features.to(dtype), config.feature_dropout, rng)
    return replace(bag, features=features)


def sample_tiles(bag: LabelledBag, max_tiles: int | None, rng: torch.Generator) -> LabelledBag:
    """A bag of at most `max_tiles` of its tiles, in their order.

    Args:
        bag: Bag to sample from; it is returned as it is if it is small enough.
        max_tiles: Largest number of tiles, drawn without replacement; None: all.
        rng: Random state of the draw.
    """
    num_tiles = len(bag.features)
    if max_tiles is None or num_tiles <= max_tiles:
        return bag
    # Ascending rows, as `induced_subgraph` needs them.
    rows = torch.randperm(num_tiles, generator=rng)[:max_tiles].sort().values
    return replace(
        bag,
        features=bag.features[rows],
        coords=None if bag.coords is None else bag.coords[rows],
        graph=None if bag.graph is None else induced_subgraph(bag.graph, rows, num_tiles),
    )


def induced_subgraph(graph: Graph, rows: Int[Tensor, " sampled"], num_tiles: int) -> Graph:
    """Edges between sampled tiles, renumbered to their new rows.

    Args:
        graph: Graph of the whole bag.
        rows: Sampled tiles, ascending, so that the order of edges stays sorted.
        num_tiles: Tiles of the whole bag.
    """
    edges = graph.sources
    # -1 marks tiles that were not sampled.
    new_row = torch.full((num_tiles,), -1, dtype=edges.dtype, device=edges.device)
    new_row[rows] = torch.arange(len(rows), dtype=edges.dtype, device=edges.device)
    sources = new_row[graph.sources]
    targets = new_row[graph.targets]
    inside = (sources >= 0) & (targets >= 0)
    return Graph(sources[inside], targets[inside], graph.kinds[inside])


def drop_features(
    features: Float[Tensor, "tiles dim"], rate: float, rng: torch.Generator
) -> Float[Tensor, "tiles dim"]:
    """Zero the same feature dimensions in all tiles of a bag.

    Args:
        features: Features of a bag.
        rate: Probability of each dimension to be zeroed, 0 <= rate < 1; the others are
            scaled by ``1 / (1 - rate)``, which keeps the mean.
        rng: Random state of the draw.
    """
    mask = torch.rand(features.shape[1], generator=rng) >= rate
    return features * (mask / (1 - rate)).to(features)
