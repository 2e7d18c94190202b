"""Bags within a memory budget: some stay in memory, the rest are read ahead of use."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mil.bags import Graph
from mil.heads import UsesGraph
from mil.io.bags.checks import check_width
from mil.io.bags.patients import FoldBag
from mil.train.data import LabelledBag, read_labelled
from mil.trained.scaling import FeatureScaling

# Share of the budget reserved for bags read ahead, once not all bags fit in memory.
READ_AHEAD_SHARE = 0.25
ReadBag = Callable[[], LabelledBag]
# Target of a bag whose own one is not known yet.
NO_TARGET = torch.tensor(0)
BuildGraph = Callable[[LabelledBag], Graph | None]


class BagStore:
    """Bags in the dtype of their files, and their graphs, within a memory budget.

    Bags are the same whatever the budget. A bag larger than the free memory is still
    read, alone, while the one before it is in use: the only excess over the budget.
    Graphs have priority over features, since building a graph takes longer than reading
    a bag; a graph that does not fit is rebuilt each time with its bag.

    Args:
        readers: Function that reads each bag. All are called once here, so that an
            unusable bag is an error before training starts.
        budget: Memory for bags and graphs, bytes.

    Attributes:
        dim: Features per tile.
        peak_bytes: Largest number of bytes held at once so far.
        graph_key: Name of the graphs that bags come with; empty: none, or without a name.
        budget: Memory for bags and graphs, bytes.
        tile_counts: Number of tiles of each bag.

    Raises:
        FormatError: The bags differ in features per tile; also what the readers raise.
    """

    def __init__(self, readers: Sequence[ReadBag], budget: int) -> None:
        self._readers = readers
        self.budget = budget
        # Bytes that may stay in memory; less than the budget once bags are read ahead.
        self._resident_limit = float(budget)
        self._bags: dict[int, LabelledBag] = {}
        # None as a value: the head builds no graph of that bag.
        self._graphs: dict[int, Graph | None] = {}
        self._build_graph: BuildGraph | None = None
        self._sizes: list[int] = []  # Bytes of each bag with its graph.
        self.tile_counts: list[int] = []
        self._resident_bytes = 0
        self._ahead_bytes = 0
        self.peak_bytes = 0
        self.graph_key = ""
        for index, reader in enumerate(readers):
            bag = reader()
            self._check_dim(bag, index)
            self._sizes.append(bytes_of(bag))
            self.tile_counts.append(len(bag.features))
            self._bags[index] = bag
            self._add_bytes(resident=self._sizes[index])
            # After each bag: memory stays within the budget during this reading too.
            self._evict()
        self._feature_sizes = tuple(self._sizes)

    def subset(
        self,
        indices: Sequence[int],
        targets: Sequence[Tensor] | None = None,
        scaling: FeatureScaling | None = None,
    ) -> "BagSubset":
        """Some of the bags as a sequence of their own.

        Args:
            indices: Indices of the bags.
            targets: Target of each in place of the one it was read with; None: that one.
            scaling: Scaling of the features; None: none.
        """
        return BagSubset(self, indices, targets, scaling)

    @property
    def num_resident(self) -> int:
        """Number of bags that stay in memory."""
        return len(self._bags)

    def add_graphs(
        self,
        head: UsesGraph,
        advance: Callable[[int], object],
        *,
        indices: Sequence[int] | None = None,
        scaling: FeatureScaling | None = None,
        key: str = "",
    ) -> None:
        """Add the graph that a head builds of each bag, kept where memory allows.

        Graphs of an earlier call are dropped: those of another head may differ.

        Args:
            head: Head that uses graphs and builds the same graph of a bag every time.
            advance: Called with 1 after each bag; the graph of a large bag takes seconds.
            indices: Indices of the bags; None: all of them.
            scaling: Scaling of the features that graphs are built of; None: none.
            key: Name of these graphs for `graph_key`, by which a caller knows them again.
        """
        self.drop_graphs()

        def build(bag: LabelledBag) -> Graph | None:
            features = bag.features.float()
            return head.build_graph(scaling(features) if scaling else features, bag.coords)

        chosen = range(len(self._readers)) if indices is None else indices
        for index, bag in zip(chosen, self.read_ahead(chosen), strict=True):
            graph = build(bag)
            size = _graph_bytes(graph)
            self._graphs[index] = graph
            self._sizes[index] += size
            self._add_bytes(resident=size)
            self._evict()
            # All bags are evicted and it still does not fit: give up the graph itself.
            if self._resident_bytes > self._resident_limit:
                del self._graphs[index]
                self._add_bytes(resident=-size)
            advance(1)
        # Set last: until then bags come without graphs, also to this loop.
        self._build_graph = build
        self.graph_key = key

    def drop_graphs(self) -> None:
        """Drop all graphs; bags come without them from then on."""
        self._build_graph = None
        self._sizes = list(self._feature_sizes)
        for graph in self._graphs.values():
            self._add_bytes(resident=-_graph_bytes(graph))
        self._graphs.clear()
        self.graph_key = ""

    def read_ahead(self, indices: Sequence[int]) -> Iterator[LabelledBag]:
        """Bags in the order of `indices`.

        A thread reads those that are not in memory while the ones before are in use.
        """
        pending: dict[int, Future[LabelledBag]] = {}  # By position in `indices`.
        next_position = 0  # Bags at earlier positions are in memory or pending.
        # One thread: reading is bound by the disk, and only its own bag is unaccounted.
        reader = ThreadPoolExecutor(1, "bags")

        def schedule_reads() -> None:
            nonlocal next_position
            while next_position < len(indices):
                index = indices[next_position]
                if not self._may_read(index, bool(pending)):
                    return
                if not self._is_resident(index):
                    pending[next_position] = reader.submit(self._make, index)
                    self._add_bytes(ahead=self._sizes[index])
                next_position += 1

        try:
            schedule_reads()
            for position, index in enumerate(indices):
                if position in pending:
                    bag = pending.pop(position).result()
                    self._add_bytes(ahead=-self._sizes[index])
                else:
                    bag = self._make(index)
                schedule_reads()
                yield bag
        finally:
            # Also when the caller stops early, as after an error in its loop.
            reader.shutdown(cancel_futures=True)
            self._ahead_bytes = 0

    def _is_resident(self, index: int) -> bool:
        has_graph = self._build_graph is None or index in self._graphs
        return index in self._bags and has_graph

    def _may_read(self, index: int, busy: bool) -> bool:
        # With nothing pending even a bag over the budget is read, else none ever came.
        if self._is_resident(index) or not busy:
            return True
        held = self._resident_bytes + self._ahead_bytes
        return held + self._sizes[index] <= self.budget

    def _make(self, index: int) -> LabelledBag:
        """A bag with its graph, each from memory or made again."""
        # Features may be evicted while their graph stays in memory.
        bag = self._bags[index] if index in self._bags else self._readers[index]()
        if self._build_graph is None:
            return bag
        graph = self._graphs[index] if index in self._graphs else self._build_graph(bag)
        return replace(bag, graph=graph)

    def _evict(self) -> None:
        """Drop the last bags until the rest fits, with room to read ahead from then on."""
        if self._resident_bytes > self._resident_limit:
            self._resident_limit = (1 - READ_AHEAD_SHARE) * self.budget
        while self._bags and self._resident_bytes > self._resident_limit:
            # Any bag will do: every epoch needs all of them, in another order.
            _, bag = self._bags.popitem()
            self._add_bytes(resident=-bytes_of(bag))

    def _add_bytes(self, resident: int = 0, ahead: int = 0) -> None:
        self._resident_bytes += resident
        self._ahead_bytes += ahead
        self.peak_bytes = max(self.peak_bytes, self._resident_bytes + self._ahead_bytes)

    def _check_dim(self, bag: LabelledBag, index: int) -> None:
        dim = bag.features.shape[1]
        if index == 0:
            self.dim = dim
            self._first_slide = bag.slide
        else:
            check_width(f"{bag.slide}.h5", dim, self.dim, f"{self._first_slide}.h5")


def open_store(bags_dir: Path, bags: Sequence[FoldBag], *, budget: int) -> BagStore:
    """Store of bags; their targets, which depend on the fold, are given to its subsets.

    Args:
        bags_dir: Folder of the bag files.
        bags: Bags, whose order is that of the store.
        budget: Memory for bags and graphs, bytes.

    Raises:
        FormatError: A bag cannot be read or has no tiles, or the bags differ in
            features per tile.
    """
    readers = [partial(read_labelled, bag.paths(bags_dir), bag.name, NO_TARGET) for bag in bags]
    return BagStore(readers, budget)


class BagSubset:
    """Some of a store's bags, by their own indices from 0; see `BagStore.subset`."""

    def __init__(
        self,
        store: BagStore,
        indices: Sequence[int],
        targets: Sequence[Tensor] | None = None,
        scaling: FeatureScaling | None = None,
    ) -> None:
        self._store = store
        self._indices = indices
        self._targets = targets
        self._scaling = scaling

    def __len__(self) -> int:
        return len(self._indices)

    def read_ahead(self, indices: Sequence[int]) -> Iterator[LabelledBag]:
        """Bags in the order of `indices`, read ahead where they are not in memory."""
        bags = self._store.read_ahead([self._indices[index] for index in indices])
        if self._targets is None and self._scaling is None:
            return bags
        # Not a generator, whose variable would keep the bag before alive.
        return map(self._adapted, indices, bags)

    def _adapted(self, index: int, bag: LabelledBag) -> LabelledBag:
        """A bag with the target and the features of this subset."""
        label = bag.label if self._targets is None else self._targets[index]
        features = bag.features if self._scaling is None else self._scaling(bag.features)
        return replace(bag, label=label, features=features)


def bytes_of(bag: LabelledBag) -> int:
    """Memory of a bag's tensors without its graph, bytes."""
    coords_bytes = 0 if bag.coords is None else bag.coords.nbytes
    return int(bag.features.nbytes + coords_bytes)


def _graph_bytes(graph: Graph | None) -> int:
    return 0 if graph is None else sum(tensor.nbytes for tensor in graph)
