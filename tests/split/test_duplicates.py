"""One slide under two names."""

from dataclasses import replace

import numpy as np
import pytest

from mil.errors import DatasetError
from mil.io.bags import fingerprint
from mil.io.bags.fingerprint import features_digest
from mil.split.duplicates import check_duplicates, find_duplicates
from tests.split.cohorts import slide
from tests.synthetic import bag_file

RNG = np.random.default_rng(0)
LONG = RNG.normal(size=(300, 1024))  # 600 kB: the ends do not meet


@pytest.fixture
def bags(tmp_path):
    middle = LONG.copy()
    middle[150, 3] += 1
    for name, features in {
        "a": LONG,
        "b": LONG[:10],
        "copy": LONG,
        "middle": middle,
        "short": LONG[:-1],
    }.items():
        bag_file(tmp_path / f"{name}.h5", name, features)
    return tmp_path


def test_duplicates_have_the_same_features_bit_for_bit(bags):
    """`middle` has the same ends, and is no duplicate for that."""
    slides = [slide(name) for name in ("a", "b", "copy", "middle", "short")]
    assert features_digest(bags / "middle.h5") == features_digest(bags / "a.h5")
    assert [(t.first.slide, t.second.slide, t.evidence) for t in find_duplicates(slides, bags)] == [
        ("a", "copy", "features")
    ]


def test_little_is_read_of_a_bag(bags, monkeypatch):
    read = []
    monkeypatch.setattr(fingerprint, "blake2b", lambda *parts, digest_size: Counter(read))
    features_digest(bags / "a.h5")
    shape_and_type, *ends = read
    assert shape_and_type < 100
    assert ends == [256 << 10, 256 << 10]


class Counter:
    """A digest that only counts what it is given."""

    def __init__(self, read):
        self.read = read

    def update(self, data):
        self.read.append(len(data))

    def hexdigest(self):
        return ""


def test_duplicates_have_the_same_checksum(bags):
    slides = [
        replace(slide("a"), checksum="sha256:AB"),
        replace(slide("b"), checksum="sha256:ab"),
        slide("short"),
    ]
    assert [(t.first.slide, t.second.slide, t.evidence) for t in find_duplicates(slides, bags)] == [
        ("a", "b", "checksum")
    ]


def test_duplicates_in_two_splits_are_refused_by_name(bags):
    duplicates = find_duplicates([slide("a"), slide("copy"), slide("short")], bags)
    line = (
        r"fold 1: slide a is in test and its duplicate copy in train "
        r"\(the same features\); such a split leaks"
    )
    with pytest.raises(DatasetError, match=line):
        check_duplicates(
            duplicates, [{"a": "train", "copy": "train"}, {"a": "test", "copy": "train"}]
        )


def test_of_three_that_are_one_two_are_enough(bags):
    bag_file(bags / "again.h5", "again", LONG)
    duplicates = find_duplicates([slide("a"), slide("copy"), slide("again")], bags)
    with pytest.raises(DatasetError, match="slide copy is in train and its duplicate again in val"):
        check_duplicates(duplicates, [{"a": "", "copy": "train", "again": "val"}])
    with pytest.raises(
        DatasetError, match=r"duplicate copy in train .*, and 1 more such pairs; such a split leaks"
    ):
        check_duplicates(duplicates, [{"a": "val", "copy": "train", "again": "train"}])


def test_duplicates_in_one_split_are_reported(bags):
    duplicates = find_duplicates([slide("a", "p"), slide("copy", "p")], bags)
    assert check_duplicates(duplicates, [{"a": "train", "copy": "train"}]) == [
        "slides a and copy are duplicates (the same features) and count twice; one may leave the table"
    ]
    assert check_duplicates([], [{"a": "train"}]) == []
