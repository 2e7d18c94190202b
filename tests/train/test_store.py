"""Bags under a budget: the same bags whatever it is, and no more of them at once than it allows."""

import weakref
from functools import partial
from itertools import count
from threading import Event

import numpy as np
import pytest
import torch

from mil.errors import FormatError
from mil.graph import knn_graph
from mil.io.bags import file as bags
from mil.io.tables import read_csv, write_csv
from mil.train.data import LabelledBag, batches
from mil.train.store import BagStore, bytes_of
from tests.messages import one_line
from tests.synthetic import bag_file

CPU = torch.device("cpu")
DIM = 32


class Disk:
    """Bags of 10 to 28 tiles, new at each reading; it records what is read and what is alive."""

    def __init__(self, bags=10):
        self.read: list[int] = []
        self.alive: dict[int, int] = {}
        self.most = 0
        self.number = count()
        self.sizes = [10 + 2 * i for i in range(bags)]
        self.bytes = [tiles * (DIM * 2 + 2 * 8) for tiles in self.sizes]
        self.readers = [partial(self.reading, i) for i in range(bags)]

    def reading(self, number):
        self.read.append(number)
        features = torch.randn(
            self.sizes[number], DIM, generator=torch.Generator().manual_seed(number)
        ).half()
        coords = torch.arange(2 * self.sizes[number]).reshape(-1, 2)
        bag = LabelledBag(f"s{number}", features, coords, torch.tensor(number % 2))
        key = next(self.number)
        self.alive[key] = bytes_of(bag)
        self.most = max(self.most, sum(self.alive.values()))
        weakref.finalize(features, self.alive.pop, key)
        return bag


class Grapher:
    """A head, as far as graphs go."""

    def __init__(self):
        self.built = 0

    def see_training(self, train):
        pass

    def build_graph(self, features, coords):
        self.built += 1
        return knn_graph(features, 3, torch.zeros(DIM))


def content(some):
    contents = []
    for joined, labels in batches(some, 3, CPU, torch.Generator().manual_seed(1)):
        edges = None if joined.graph is None else [part.tolist() for part in joined.graph]
        contents.append(
            (joined.features.numpy().tobytes(), joined.coords.tolist(), labels.tolist(), edges)
        )
    return contents


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 1.0])
def test_the_same_bags_whatever_the_budget(share):
    whole = Disk()
    disk = Disk()
    plain = [reader() for reader in whole.readers]
    assert bytes_of(plain[3]) == disk.bytes[3]
    store = BagStore(disk.readers, int(share * sum(disk.bytes)))
    assert content(store.subset(range(10))) == content(plain)
    assert [bag.slide for bag in store.subset(range(4, 7)).read_ahead([0, 1, 2])] == [
        "s4",
        "s5",
        "s6",
    ]
    assert (len(disk.read) == 10) == (share == 1.0)  # all fit: nothing is read twice


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_memory_stays_within_the_budget(share):
    disk = Disk()
    budget = int(share * sum(disk.bytes))
    largest = max(disk.bytes)
    store = BagStore(disk.readers, budget)
    part = store.subset(range(10))
    for _ in range(3):
        for bag in part.read_ahead(torch.randperm(10).tolist()):
            del bag
    assert (
        store.peak_bytes <= max(budget, largest) + largest
    )  # the first reading counts a bag before it is given up
    # What is alive besides: the bag that is worked on, and that of the reading thread.
    assert disk.most <= max(budget, largest) + 3 * largest
    if share >= 0.6:
        assert 0 < store.num_resident < 10
        assert store.peak_bytes <= budget + largest


def test_a_bag_is_read_while_those_before_it_are_worked_on():
    disk = Disk()
    store = BagStore(disk.readers, 4 * max(disk.bytes))
    assert store.num_resident < 8
    read = Event()
    eighth = disk.readers[8]

    def reading():
        read.set()
        return eighth()

    disk.readers[8] = reading
    stream = store.subset(range(10)).read_ahead(list(range(9, -1, -1)))
    assert next(stream).slide == "s9"
    assert read.wait(timeout=30)
    stream.close()  # as after an error


def test_what_a_reader_raises_while_reading_ahead_is_raised_in_turn():
    disk = Disk()
    store = BagStore(disk.readers, 0)

    def gone():
        raise FormatError("s5.h5: no such file")

    disk.readers[5] = gone
    seen = []
    with pytest.raises(FormatError, match="no such file"):
        seen.extend(bag.slide for bag in store.subset(range(10)).read_ahead(list(range(3, 10))))
    assert seen == ["s3", "s4"]
    assert [bag.slide for bag in store.subset(range(10)).read_ahead([3, 4])] == ["s3", "s4"]


@pytest.mark.parametrize("share", [0.0, 0.4, 0.7, 1.0])
def test_graphs_are_counted_and_kept_before_features(share):
    whole = Disk()
    disk = Disk()
    grapher = Grapher()
    everything = BagStore(whole.readers, 1 << 30)
    everything.add_graphs(Grapher(), lambda _: None)
    with_graphs = everything.peak_bytes
    assert with_graphs > sum(disk.bytes)
    budget = int(share * with_graphs)
    store = BagStore(disk.readers, budget)
    advanced = []
    store.add_graphs(grapher, advanced.append)
    assert advanced == [1] * 10
    assert content(store.subset(range(10))) == content(everything.subset(range(10)))
    largest = max(disk.bytes) + (with_graphs - sum(disk.bytes)) // 5
    assert store.peak_bytes <= budget + 2 * largest
    graphs = with_graphs - sum(disk.bytes)
    if share == 1.0:
        assert (store.num_resident, grapher.built, len(disk.read)) == (10, 10, 10)
    elif graphs <= 0.75 * budget:
        assert grapher.built == 10  # none is made twice
        assert store.num_resident < 10
    else:
        assert grapher.built > 10


@pytest.mark.parametrize("head", ["acmil", "graph_select", "ibmil"])
def test_the_weights_are_the_same_with_and_without_memory(small, head):
    how = "epochs: 2, batch_bags: 3, max_tiles: 9"
    small.train(head, how, "memory", cache_mb=100)
    small.train(head, how, "disk", cache_mb=0)
    assert small.files("memory") == small.files("disk")


def test_bags_that_turn_bad_during_training_are_one_line(small, monkeypatch):
    from mil.train import loop

    def damage(*_):
        bag_file(small.folder / "bags" / "s03.h5", "s03", np.full((3, 16), np.nan, np.float32))
        return {"score": 0.0}

    monkeypatch.setattr(loop, "validate", damage)
    with one_line(FormatError, match=r"s03\.h5: holds values that are not numbers"):
        small.train("acmil", "epochs: 3", cache_mb=0)


def test_test_slides_are_never_opened(small, monkeypatch):
    """Not even a header, nor does it matter what is there."""
    rows = read_csv(small.folder / "folds.csv")
    for row in rows:
        if row["slide"] in ("s02", "s09"):
            row["split"] = "test"
    write_csv(small.folder / "folds.csv", rows)
    opened = set()
    reading = bags.reading

    def opening(path, *given):
        opened.add(path.stem)
        return reading(path, *given)

    monkeypatch.setattr(bags, "reading", opening)
    small.train("ibmil", "epochs: 2", cache_mb=0)
    assert opened == {f"s{i:02d}" for i in range(12)} - {"s02", "s09"}
