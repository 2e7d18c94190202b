"""Bags with labels, and batches of them laid end to end."""

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
from mil.io.bags.patients import read_together


@dataclass(frozen=True, eq=False)
class LabelledBag:
    """One bag's valid tiles as stored, its coordinates, and its label as the task's target."""

    slide: str
    features: Tensor  # [tiles, dim]
    coords: Tensor | None  # [tiles, 2], level-0 pixels
    label: Tensor  # the task's target; of classes a number, []
    graph: Graph | None = None


@runtime_checkable
class ReadAhead(Protocol):
    """Bags that are read from disk while those before them are worked on."""

    def __len__(self) -> int:
        """How many there are."""

    def ahead(self, places: Sequence[int]) -> Iterator[LabelledBag]:
        """Bags in that order."""


Source = Sequence[LabelledBag] | ReadAhead


def read_labelled(paths: Sequence[Path], name: str, target: Tensor) -> LabelledBag:
    """Read the bag of a slide, or those of a patient as one.

    Args:
        paths: the bag of each slide.
        name: of the whole.
        target: what the task makes of its label.

    Raises:
        FormatError: it has no tiles, or holds a value that is not a number.
    """
    bag = read_together(paths, name)
    path = paths[0]
    check_has_tiles(bag, path)
    features = bag.features[bag.valid]
    check_finite(features, path)
    coords = None if bag.coords is None else torch.from_numpy(bag.coords[bag.valid])
    return LabelledBag(name, torch.from_numpy(features), coords, target)


def batches(
    bags: Source,
    size: int,
    device: torch.device,
    order: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Bags, Tensor]]:
    """Bags `size` at a time with stacked targets, in a random order if `order` is given; features as `dtype`."""
    sequence = (
        torch.randperm(len(bags), generator=order).tolist() if order else list(range(len(bags)))
    )
    yield from laid_out(in_order(bags, sequence), size, device, dtype)


def in_order(bags: Source, places: Sequence[int]) -> Iterator[LabelledBag]:
    """Bags one by one; those of a store are read ahead."""
    return bags.ahead(places) if isinstance(bags, ReadAhead) else (bags[place] for place in places)


def laid_out(
    bags: Iterator[LabelledBag], size: int, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Bags, Tensor]]:
    """Bags `size` at a time, end to end, with stacked targets; features as `dtype`."""
    while chosen := list(islice(bags, size)):
        coords = [bag.coords.to(device) for bag in chosen if bag.coords is not None]
        known = coords if len(coords) == len(chosen) else None
        graphs = [
            Graph(*(part.to(device) for part in bag.graph))
            for bag in chosen
            if bag.graph is not None
        ]
        whole = graphs if len(graphs) == len(chosen) else None
        joined = join([bag.features.to(device, dtype) for bag in chosen], known, whole)
        yield joined, torch.stack([bag.label for bag in chosen]).to(device)


def with_graphs(
    bags: Sequence[LabelledBag], head: UsesGraph, advance: Callable[[int], object] = lambda _: None
) -> list[LabelledBag]:
    """The bags with the graph that a head makes of each, so that it is made once and not at every step.

    Args:
        bags: to make graphs of.
        head: that uses them.
        advance: told after each bag: a graph of a large one takes seconds.
    """
    found: list[LabelledBag] = []
    for bag in bags:
        found.append(replace(bag, graph=head.build_graph(bag.features.float(), bag.coords)))
        advance(1)
    return found
