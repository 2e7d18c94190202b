"""Labelled bags, and batches of them concatenated to ragged `Bags`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mil.bags import Bags, Graph, join
from mil.heads import UsesGraph
from mil.io.bags.checks import check_finite, check_has_tiles
from mil.io.bags.patients import read_concatenated

# Tiles of small bags that go through a head together outside of training.
TILES_AT_ONCE = 1024


# Not comparable (eq=False): two tensors compare to a tensor, not to a Boolean.
@dataclass(frozen=True, eq=False)
class LabelledBag:
    """A bag's valid tiles in the dtype of its file, with its label as a target.

    Attributes:
        slide: Name of the slide, or of the patient with early fusion.
        features: Features of the valid tiles, [tiles, dim].
        coords: Top-left corners of the tiles, level-0 pixels, [tiles, 2]; None: unknown.
        label: Target of the task; for classification a class index, [].
        graph: Neighbour graph of the tiles; None: none was built.
    """

    slide: str
    features: Tensor
    coords: Tensor | None
    label: Tensor
    graph: Graph | None = None


@runtime_checkable
class ReadAhead(Protocol):
    """Bags that a thread reads from disk while earlier ones are in use."""

    def __len__(self) -> int:
        """Number of bags."""

    def read_ahead(self, indices: Sequence[int]) -> Iterator[LabelledBag]:
        """Bags in the order of `indices`."""


BagSource = Sequence[LabelledBag] | ReadAhead


def read_labelled(paths: Sequence[Path], name: str, target: Tensor) -> LabelledBag:
    """Read the bag of one slide, or the bags of a patient's slides as one.

    Args:
        paths: Bag file of each slide.
        name: Name of the slide or patient.
        target: Target that the task makes of the label.

    Raises:
        FormatError: The bag has no valid tiles, a feature is NaN or infinite, or a file
            cannot be read.
    """
    bag = read_concatenated(paths, name)
    path = paths[0]
    check_has_tiles(bag, path)
    # In the dtype of the file, usually float16: half the memory in a store.
    features = bag.features[bag.valid]
    # One bad value would make the loss NaN much later, where the slide is not known.
    check_finite(features, path)
    # Bags from other tools may come without coordinates.
    coords = None if bag.coords is None else torch.from_numpy(bag.coords[bag.valid])
    return LabelledBag(name, torch.from_numpy(features), coords, target)


def batches(
    bags: BagSource,
    size: int,
    device: torch.device,
    rng: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Bags, Tensor]]:
    """Batches of whole bags, each bag once.

    Args:
        bags: Bags to batch.
        size: Bags per batch; the last batch may have fewer.
        device: Device of the batches.
        rng: Random state for the order; None: the bags' own order.
        dtype: Dtype of the features.

    Yields:
        Concatenated bags and their stacked targets.
    """
    if rng is None:
        order = list(range(len(bags)))
    else:
        order = torch.randperm(len(bags), generator=rng).tolist()
    yield from collate(in_order(bags, order), size, device, dtype)


def small_batches(
    bags: BagSource, device: torch.device, most_tiles: int = TILES_AT_ONCE
) -> Iterator[tuple[Bags, Tensor]]:
    """Batches of whole float32 bags in their order, as many as have so few tiles together.

    A head takes as long for a few small bags as for one of them.

    Args:
        bags: Bags to batch.
        device: Device of the batches.
        most_tiles: Tiles of a batch; a larger bag is a batch of its own.
    """
    group: list[LabelledBag] = []
    tiles = 0
    for bag in in_order(bags, range(len(bags))):
        if group and tiles + len(bag.features) > most_tiles:
            yield from collate(iter(group), len(group), device, torch.float32)
            group = []
            tiles = 0
        group.append(bag)
        tiles += len(bag.features)
    if group:
        yield from collate(iter(group), len(group), device, torch.float32)


def in_order(bags: BagSource, indices: Sequence[int]) -> Iterator[LabelledBag]:
    """Bags one at a time in the order of `indices`; a store reads ahead."""
    if isinstance(bags, ReadAhead):
        return bags.read_ahead(indices)
    return (bags[index] for index in indices)


def collate(
    bags: Iterator[LabelledBag], size: int, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Bags, Tensor]]:
    """Concatenate `size` bags at a time without padding.

    A batch has coordinates, or a graph, only if each of its bags has.

    Args:
        bags: Bags in order.
        size: Bags per batch.
        device: Device of the batches.
        dtype: Dtype of the features.

    Yields:
        Concatenated bags and their stacked targets.
    """
    while group := list(islice(bags, size)):
        coords = [bag.coords.to(device) for bag in group if bag.coords is not None]
        graphs = [_graph_on(bag.graph, device) for bag in group if bag.graph is not None]
        # No name for the converted features: they would live beside their copy in `joined`
        # for the whole step, and they are the largest tensors of training.
        joined = join(
            [bag.features.to(device, dtype) for bag in group],
            coords if len(coords) == len(group) else None,
            graphs if len(graphs) == len(group) else None,
        )
        yield joined, torch.stack([bag.label for bag in group]).to(device)


def _graph_on(graph: Graph, device: torch.device) -> Graph:
    return Graph(*(edges.to(device) for edges in graph))


def with_graphs(
    bags: Sequence[LabelledBag], head: UsesGraph, advance: Callable[[int], object] = lambda _: None
) -> list[LabelledBag]:
    """Bags with the graph that a head builds of each, built once instead of every epoch.

    Args:
        bags: Bags without graphs.
        head: Head that uses graphs.
        advance: Called with 1 after each bag; the graph of a large bag takes seconds.
    """
    bags_with_graph: list[LabelledBag] = []
    for bag in bags:
        # Graphs are built in float32, so that the dtype of a bag file does not matter.
        graph = head.build_graph(bag.features.float(), bag.coords)
        bags_with_graph.append(replace(bag, graph=graph))
        advance(1)
    return bags_with_graph
