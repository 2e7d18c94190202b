"""The demo plan: balanced, told apart by patient, and equal to what is committed."""

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from mil.demo.plan import demo_slides, demo_table

DATASETS = Path(__file__).parents[2] / "configs" / "datasets"


@pytest.mark.parametrize(("plan", "table"), [("demo", "demo.csv"), ("mini", "demo_mini.csv")])
def test_committed_csv_is_the_plan(plan, table):
    with (DATASETS / table).open(newline="") as file:
        assert list(csv.DictReader(file)) == demo_table(plan)


@pytest.mark.parametrize(
    ("plan", "splits"),
    [("demo", {"train": 16, "val": 6, "test": 10}), ("mini", {"train": 4, "val": 2, "test": 2})],
)
def test_splits_are_balanced_and_share_no_patient(plan, splits):
    slides = demo_slides(plan)
    assert Counter(slide.split for slide in slides) == splits
    assert Counter((slide.split, slide.label) for slide in slides) == {
        (split, label): count // 2
        for split, count in splits.items()
        for label in ("normal", "tumour")
    }
    home = {(slide.patient, slide.split) for slide in slides}
    assert len(home) == len({patient for patient, _ in home})
    assert max(Counter(slide.patient for slide in slides).values()) <= 2


def test_scanner_tells_nothing_about_the_label():
    for split in ("train", "val", "test"):
        count = Counter((s.label, s.scanner) for s in demo_slides("demo") if s.split == split)
        assert min(count.values()) >= 1
        assert abs(count["tumour", "A"] - count["normal", "A"]) <= 1
    for design in ("tissue", "pen", "fold"):
        both = Counter((s.label, getattr(s, design)) for s in demo_slides("demo"))
        for value in {value for _, value in both}:
            assert both["tumour", value] == both["normal", value]


def test_every_split_has_a_small_tumour_but_few():
    for split in ("train", "val", "test"):
        extents = [
            s.extent for s in demo_slides("demo") if s.split == split and s.label == "tumour"
        ]
        assert 1 <= extents.count("small") <= len(extents) / 3


def test_ids_say_nothing_about_label_or_split():
    slides = demo_slides("demo")
    assert [slide.id for slide in slides] == [f"demo_{number:02d}" for number in range(1, 33)]
    for name in ("label", "split", "scanner"):
        values = [getattr(slide, name) for slide in slides]
        assert sum(a != b for a, b in pairwise(values)) >= 8


def test_unknown_plan():
    with pytest.raises(ValueError, match="there are: demo, mini"):
        demo_slides("big")
