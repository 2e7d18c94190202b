"""Divisions that must not be, and those that should be known."""

import pytest

from mil.errors import DatasetError
from mil.io.tables.checks import check_folds, check_labels, warnings_of
from tests.split.cohorts import cohort, slide


def rows(*of):
    """Rows of folds.csv, each written as `fold slide patient label split`."""
    return [
        dict(zip(("fold", "slide", "patient", "label", "split"), one.split(), strict=True))
        for one in of
    ]


def told(rows):
    return warnings_of(rows, lambda label: {label})


def test_training_on_one_class_is_refused():
    with pytest.raises(
        DatasetError, match=r"fold 0: the training slides have 1 class\(es\) \(normal\)"
    ):
        check_folds(rows("0 a a normal train", "0 b b tumour test"))
    with pytest.raises(
        DatasetError, match=r"fold 0: the training slides have 0 class\(es\) \(none\)"
    ):
        check_folds(rows("0 a a normal val", "0 b b tumour test"))


def test_a_patient_in_two_splits_is_refused_by_name():
    with pytest.raises(
        DatasetError, match="fold 1: patient p is in two splits: slide a in train, slide b in test"
    ):
        check_folds(rows("0 c c n train", "0 d d t train", "1 a p n train", "1 b p n test"))
    check_folds(
        rows("0 a p n train", "0 b p t train", "1 a p n test", "1 c c n train", "1 d d t train")
    )


def test_a_table_of_one_class_is_refused():
    with pytest.raises(
        DatasetError,
        match="all 3 slides of the table have the label 'normal'; a head needs at least",
    ):
        check_labels([slide(name) for name in "abc"], early=False)


def test_a_patient_of_two_labels_is_refused_only_where_the_slides_become_one_bag():
    slides = [*cohort(3, slides_each=1), slide("s1_1", "p1", "normal")]
    check_labels(slides, early=False)
    line = (
        r"patient p1 has two labels: tumour \(slide s1_0\) and normal \(slide s1_1\), "
        "but fusion=early"
    )
    with pytest.raises(DatasetError, match=line):
        check_labels(slides, early=True)


def test_what_should_be_known():
    sound = (
        "0 a a n train",
        "0 b b t train",
        "0 c c n val",
        "0 d d t val",
        "0 e e n test",
        "0 f f t test",
    )
    assert told(rows(*sound)) == []
    assert told(rows(*sound[:4])) == ["fold 0: no test slides; metrics that need it are left empty"]
    assert told(rows(*sound[:3], *sound[4:])) == [
        "fold 0: no val slides with label t; the epoch is chosen on what there is"
    ]
    other = ("1 a a n train", "1 b b t train", "1 c c n val", "1 d d t val", "1 e e n test")
    assert told(rows(*sound, *other)) == [
        "fold 1: no test slides with label t; metrics that need it are of all folds together"
    ]
    third = (*sound, "0 g g other test")
    assert told(rows(*third)) == [
        "fold 0: no train slides with label other; a head cannot learn what it never sees",
        "fold 0: no val slides with label other; the epoch is chosen on what there is",
    ]
