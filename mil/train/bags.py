"""Bags of a split in memory, and batches of them laid end to end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mil.bags import join
from mil.errors import DatasetError, FormatError
from mil.heads import UsesGraph
from mil.io.bags import read_bag
from mil.tasks import AnyTask
from mil.types import Bags, Graph


@dataclass(frozen=True, eq=False)
class LabelledBag:
    """One slide's valid tiles as stored, its coordinates, and its label as the task's target."""

    slide: str
    features: Tensor  # [tiles, dim]
    coords: Tensor | None  # [tiles, 2], level-0 pixels
    label: Tensor  # the task's target; of classes a number, []
    graph: Graph | None = None


def load_bags(bags_dir: Path, slides: Sequence[tuple[str, str]], task: AnyTask) -> list[LabelledBag]:
    """Read the bags of slides with labels.

    Args:
        bags_dir: folder of the bags.
        slides: slide id and label of each.
        task: makes targets of the labels.

    Raises:
        FormatError: a bag holds a value that is not a number.
        DatasetError: a bag has no tiles.
    """
    bags: list[LabelledBag] = []
    for slide, label in slides:
        path = bags_dir / f"{slide}.h5"
        bag = read_bag(path)
        features = torch.from_numpy(bag.features[bag.valid])
        if not len(features):
            raise DatasetError(
                f"{path}: the bag has no tiles (its state is {bag.state}); run `split` again, or take its slide out of "
                "the csv"
            )
        if not torch.isfinite(features).all():
            raise FormatError(f"{path}: holds values that are not numbers; delete it and make it again")
        if bags and features.shape[1] != bags[0].features.shape[1]:
            raise FormatError(
                f"{path}: {features.shape[1]} numbers a tile, but {bags[0].features.shape[1]} in {bags[0].slide}.h5; a "
                "folder holds bags of one encoder"
            )
        coords = None if bag.coords is None else torch.from_numpy(bag.coords[bag.valid])
        bags.append(LabelledBag(slide, features, coords, task.target(label)))
    return bags


def batches(
    bags: Sequence[LabelledBag],
    size: int,
    device: torch.device,
    order: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Bags, Tensor]]:
    """Bags `size` at a time with stacked targets, in a random order if `order` is given; features as `dtype`."""
    sequence = torch.randperm(len(bags), generator=order).tolist() if order else list(range(len(bags)))
    for first in range(0, len(bags), size):
        chosen = [bags[i] for i in sequence[first : first + size]]
        coords = [bag.coords.to(device) for bag in chosen if bag.coords is not None]
        known = coords if len(coords) == len(chosen) else None
        graphs = [Graph(*(part.to(device) for part in bag.graph)) for bag in chosen if bag.graph is not None]
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
