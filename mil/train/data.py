"""Bags under a stated budget of memory: what fits is kept, the rest is read again, ahead of use."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from mil.bags import Graph
from mil.heads import UsesGraph
from mil.io.bags.checks import check_width
from mil.train.bags import LabelledBag

AHEAD = 0.25  # share of the budget left to bags that are read ahead, once not all fit
Reader = Callable[[], LabelledBag]


class BagStore:
    """Bags as they are stored, and their graphs. What is kept and what is read ahead stays within the budget.

    The one exception: a bag larger than what is free is still read, alone, while the
    one before it is worked on. Graphs go before features, since a graph takes longer to
    make than a bag to read; a graph that does not fit is made again with its bag.
    Whatever the budget, the bags are the same.

    Args:
        readers: read each bag; all are called once, so that a bag that cannot be used
            is told at once.
        budget: bytes.

    Raises:
        FormatError: the bags are of several widths; and what the readers raise.
    """

    def __init__(self, readers: Sequence[Reader], budget: int) -> None:
        self._readers = readers
        self._budget = budget
        self._limit = float(budget)  # of what is kept
        self._bags: dict[int, LabelledBag] = {}
        self._graphs: dict[int, Graph | None] = {}  # of a bag: None is that it has none
        self._build: Callable[[LabelledBag], Graph | None] | None = None
        self._sizes: list[int] = []  # of each bag with its graph
        # bytes
        self._kept = 0
        self._coming = 0
        self.most = 0  # bytes that were held at once
        for number, reader in enumerate(readers):
            bag = reader()
            self._check_width(bag, number)
            self._sizes.append(bytes_of(bag))
            self._bags[number] = bag
            self._count(kept=self._sizes[number])
            self._spill()

    def part(self, numbers: range) -> "Part":
        """Some of the bags, as a sequence of their own."""
        return Part(self, numbers)

    @property
    def kept(self) -> int:
        """How many bags stay in memory."""
        return len(self._bags)

    def add_graphs(self, head: UsesGraph, advance: Callable[[int], object]) -> None:
        """Give every bag the graph that a head makes of it, once where memory allows.

        Args:
            head: that uses them; makes the same graph of a bag every time.
            advance: told after each bag: a graph of a large one takes seconds.
        """

        def build(bag: LabelledBag) -> Graph | None:
            return head.build_graph(bag.features.float(), bag.coords)

        for number, bag in enumerate(self.ahead(range(len(self._readers)))):
            graph = build(bag)
            size = _graph_bytes(graph)
            self._graphs[number] = graph
            self._sizes[number] += size
            self._count(kept=size)
            self._spill()
            if self._kept > self._limit:  # with no bag left to give up
                del self._graphs[number]
                self._count(kept=-size)
            advance(1)
        self._build = build

    def ahead(self, numbers: Sequence[int]) -> Iterator[LabelledBag]:
        """Bags in that order; those not kept are read by a thread while the ones before them are worked on."""
        coming: dict[int, Future[LabelledBag]] = {}  # by place in the order
        sought = 0  # the places before it are kept, or come
        reader = ThreadPoolExecutor(1, "bags")

        def read_on() -> None:
            nonlocal sought
            while sought < len(numbers) and self._may_read(numbers[sought], bool(coming)):
                if not self._is_kept(numbers[sought]):
                    coming[sought] = reader.submit(self._make, numbers[sought])
                    self._count(coming=self._sizes[numbers[sought]])
                sought += 1

        try:
            read_on()
            for place, number in enumerate(numbers):
                if place in coming:
                    bag = coming.pop(place).result()
                    self._count(coming=-self._sizes[number])
                else:
                    bag = self._make(number)
                read_on()
                yield bag
        finally:
            reader.shutdown(cancel_futures=True)
            self._coming = 0

    def _is_kept(self, number: int) -> bool:
        return number in self._bags and (self._build is None or number in self._graphs)

    def _may_read(self, number: int, busy: bool) -> bool:
        return (
            self._is_kept(number)
            or not busy
            or self._kept + self._coming + self._sizes[number] <= self._budget
        )

    def _make(self, number: int) -> LabelledBag:
        """A bag with its graph, of what is kept and what has to be made."""
        bag = self._bags[number] if number in self._bags else self._readers[number]()
        if self._build is None:
            return bag
        return replace(
            bag, graph=self._graphs[number] if number in self._graphs else self._build(bag)
        )

    def _spill(self) -> None:
        """Give up the last bags until the rest fits, and leave room to read ahead from then on."""
        if self._kept > self._limit:
            self._limit = (1 - AHEAD) * self._budget
        while self._bags and self._kept > self._limit:
            self._count(kept=-bytes_of(self._bags.popitem()[1]))

    def _count(self, kept: int = 0, coming: int = 0) -> None:
        self._kept += kept
        self._coming += coming
        self.most = max(self.most, self._kept + self._coming)

    def _check_width(self, bag: LabelledBag, number: int) -> None:
        width = bag.features.shape[1]
        if number == 0:
            self.dim = width
            self._first = bag.slide
        else:
            check_width(f"{bag.slide}.h5", width, self.dim, f"{self._first}.h5")


class Part:
    """Some of a store's bags."""

    def __init__(self, store: BagStore, numbers: range) -> None:
        self._store = store
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def ahead(self, places: Sequence[int]) -> Iterator[LabelledBag]:
        """Bags in that order, read ahead where they are not kept."""
        return self._store.ahead([self._numbers[place] for place in places])


def bytes_of(bag: LabelledBag) -> int:
    """Memory of a bag's tensors, without its graph."""
    return int(bag.features.nbytes + (0 if bag.coords is None else bag.coords.nbytes))


def _graph_bytes(graph: Graph | None) -> int:
    return 0 if graph is None else sum(part.nbytes for part in graph)
