"""Dividing patients."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.errors import DatasetError
from mil.io.tables import Slide
from mil.io.tables.checks import check_enough
from mil.split.folds import leave_one_out, make_folds, with_val
from tests.split.cohorts import cohort, slide

SHARES = {"val_share": 0.2, "test_share": 0.25}


RENAMED = {"normal": "z", "tumour": "a", "other": "m"}


@given(st.integers(12, 40), st.integers(1, 3), st.integers(1, 5), st.integers(0, 3))
def test_patients_stay_together_and_every_split_has_both_classes(
    patients, slides_each, folds, seed
):
    slides = cohort(patients, slides_each)
    result = make_folds(slides, folds, seed=seed, **SHARES)
    assert len(result) == folds
    for names in result:
        of = {}
        for one, name in zip(slides, names, strict=True):
            assert of.setdefault(one.patient, name) == name
        for part in ("train", "val", "test"):
            assert {s.label for s, n in zip(slides, names, strict=True) if n == part} == {
                "normal",
                "tumour",
            }


def test_cross_validation_tests_every_slide_once():
    slides = cohort(20)
    result = make_folds(slides, 5, seed=0, **SHARES)
    assert all(sum(names[i] == "test" for names in result) == 1 for i in range(len(slides)))


def test_the_tables_test_split_is_kept_in_every_fold():
    slides = cohort(20, split=lambda i: "test" if i < 6 else "train")
    for names in make_folds(slides, 3, seed=0, **SHARES):
        assert [n == "test" for n in names] == [s.split == "test" for s in slides]
    result = make_folds(slides, 3, seed=0, **SHARES)
    assert all(
        sum(n[i] == "val" for n in result) == 1 for i, s in enumerate(slides) if s.split != "test"
    )


def test_the_tables_splits_are_taken_as_they_are_with_one_fold():
    slides = cohort(9, split=lambda i: ("train", "val", "test")[i % 3])
    assert make_folds(slides, 1, seed=0, **SHARES) == [[s.split for s in slides]]


def test_same_seed_same_folds_and_another_seed_other_folds():
    slides = cohort(30)
    first, again, other = (make_folds(slides, 2, seed=seed, **SHARES) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_too_few_patients_of_a_class_is_one_line():
    slides = [Slide("a", "a", "normal"), Slide("b", "b", "normal"), Slide("c", "c", "tumour")]
    with pytest.raises(
        DatasetError, match=r"only 1 with label 'tumour'; add slides, or name the splits"
    ):
        make_folds(slides, 1, seed=0, **SHARES)


@pytest.mark.parametrize(
    ("test_share", "val_share"), [(0.25, 0.2), (0.4, 0.3), (0.1, 0.5), (0.6, 0.25)]
)
def test_shares_are_shares_of_the_patients(test_share, val_share):
    slides = cohort(100, slides_each=1)
    names = make_folds(slides, 1, test_share=test_share, val_share=val_share, seed=0)[0]
    assert names.count("test") == pytest.approx(100 * test_share, abs=1)
    assert names.count("val") == pytest.approx((100 - names.count("test")) * val_share, abs=1)


def test_what_the_table_names_is_not_moved():
    slides = cohort(20, split=lambda i: "train" if i < 8 else "val" if i < 12 else "")
    names = make_folds(slides, 1, seed=0, **SHARES)[0]
    for one, name in zip(slides, names, strict=True):
        assert one.split in ("", name)
    assert {s.split for s, n in zip(slides, names, strict=True) if n == "test"} == {""}


def test_a_table_of_train_and_val_has_no_test():
    slides = cohort(12, split=lambda i: "train" if i < 8 else "val")
    assert make_folds(slides, 1, seed=0, **SHARES) == [[slide.split for slide in slides]]


def test_fewer_patients_than_folds_is_one_line():
    slides = [Slide(f"s{i}", f"p{i}", "tumour" if i < 3 else "normal") for i in range(30)]
    with pytest.raises(
        DatasetError, match="into 5 parts: only 3 with label 'tumour'; add slides, take fewer folds"
    ):
        make_folds(slides, 5, seed=0, **SHARES)


@st.composite
def tables(draw):
    """Tables in any order: enough patients of each label, some with slides of two; centres."""
    patients = draw(st.integers(15, 30))
    slides = [
        slide(
            f"s{i}_{k}",
            f"p{i}",
            draw(st.sampled_from(("normal", "tumour", "other"))) if k else label,
            centre=f"c{i % 3}",
        )
        for i in range(patients)
        for label in [("normal", "tumour", "other")[i % 3]]
        for k in range(draw(st.integers(1, 3)))
    ]
    return draw(st.permutations(slides))


def divisions(slides, folds, seed):
    """By each way of dividing, for each fold the split of each slide by its name."""
    groups = [s.subgroups["centre"] for s in slides]
    left_out = leave_one_out(slides, groups, val_share=0.2, seed=seed)
    divisions_by_way = {
        "drawn": make_folds(slides, folds, seed=seed, **SHARES),
        "left out": list(left_out.values()),
    }
    ids = [s.slide for s in slides]
    return {
        way: [dict(zip(ids, names, strict=True)) for names in of]
        for way, of in divisions_by_way.items()
    }


@given(tables(), st.integers(1, 5), st.integers(0, 3))
def test_however_patients_are_divided_none_is_in_two_splits_and_every_slide_is_in_one(
    slides, folds, seed
):
    for of in divisions(slides, folds, seed).values():
        for splits in of:
            assert sorted(splits) == sorted(s.slide for s in slides)
            assert set(splits.values()) == {"train", "val", "test"}
            for patient in {s.patient for s in slides}:
                assert len({splits[s.slide] for s in slides if s.patient == patient}) == 1


@given(tables(), st.integers(1, 5), st.data())
def test_order_of_the_table_and_names_of_labels_change_nothing(slides, folds, data):
    before = divisions(slides, folds, 0)
    assert divisions(data.draw(st.permutations(slides)), folds, 0) == before
    assert divisions([replace(s, label=RENAMED[s.label]) for s in slides], folds, 0) == before


def test_each_centre_is_the_test_of_one_fold():
    slides = cohort(12, centre=lambda i: "bca"[i % 3])
    groups = [s.subgroups["centre"] for s in slides]
    folds = leave_one_out(slides, groups, val_share=0.25, seed=0)
    assert list(folds) == ["a", "b", "c"]
    for centre, names in folds.items():
        assert [n == "test" for n in names] == [g == centre for g in groups]
        assert names.count("val") == 4  # of four patients of each label one, with two slides


def test_validation_is_drawn_only_where_there_is_none():
    slides = cohort(8, slides_each=1)
    given_val = ["train", "val", "train", "train", "test", "test", "test", ""]
    assert with_val(slides, given_val, val_share=0.5, seed=0) == given_val
    names = with_val(slides, ["train"] * 6 + ["test", ""], val_share=0.34, seed=0)
    assert names[6:] == ["test", ""]
    assert sorted(s.label for s, n in zip(slides, names, strict=True) if n == "val") == [
        "normal",
        "tumour",
    ]


def test_a_label_of_one_patient_stays_in_training_where_the_test_is_given():
    slides = [
        slide("a", label="tumour"),
        *(slide(f"n{i}") for i in range(3)),
        slide("t", label="tumour"),
    ]
    names = with_val(slides, ["train"] * 4 + ["test"], val_share=0.3, seed=0)
    assert names[0] == "train"
    assert names.count("val") == 1


def test_a_single_patient_for_training_is_one_line():
    with pytest.raises(
        DatasetError, match="only patient a is left for training, and validation needs another"
    ):
        with_val([slide("a"), slide("b")], ["train", "test"], val_share=0.2, seed=0)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_no_share_leaves_a_split_without_a_label(share):
    slides = cohort(16, slides_each=1)
    names = make_folds(slides, 1, val_share=share, test_share=min(share, 0.5), seed=0)[0]
    for part in ("train", "val", "test"):
        assert {s.label for s, n in zip(slides, names, strict=True) if n == part} == {
            "normal",
            "tumour",
        }


def test_a_share_that_leaves_nothing_to_validate_on_is_one_line():
    with pytest.raises(
        DatasetError, match="cannot divide the patients into 2 parts: only 1 with label 'normal'"
    ):
        make_folds(cohort(16), 1, val_share=0.2, test_share=0.999, seed=0)


def test_patients_whose_labels_nobody_shares_are_drawn_together():
    """Six patients, each with a set of labels of its own: a share of them, not none."""
    sets = ["a", "b", "c", "ab", "bc", "ac"]
    slides = [
        slide(f"{p}{label}", f"p{p}", label) for p, labels in enumerate(sets) for label in labels
    ]
    names = with_val(slides, ["train"] * len(slides), val_share=0.5, seed=0)
    assert len({s.patient for s, n in zip(slides, names, strict=True) if n == "val"}) == 3


def test_folds_are_of_like_size():
    """Of 20 patients of one slide in 5 folds each tests two of each label, whatever the seed."""
    slides = cohort(20, slides_each=1)
    for seed in range(5):
        folds = [
            {s.slide for s, n in zip(slides, names, strict=True) if n == "test"}
            for names in make_folds(slides, 5, seed=seed, **SHARES)
        ]
        assert [len(part) for part in folds] == [4] * 5
        assert all(not first & second for first, second in pairwise(folds))


def refusal(divide):
    try:
        divide()
    except DatasetError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("every_label", [True, False])
@pytest.mark.parametrize("share", [0.25, 0.9])
def test_what_cannot_be_drawn_is_refused_before_the_run(share, every_label):
    """By the plan as by the stage: of few patients, with and without splits of the table."""
    outcomes = Counter()
    for counts, fixed in product(product(range(1, 6), repeat=2), ["", "test", "val", "train"]):
        slides = [
            slide(f"{label}{n}", label=label, split=fixed if n == 0 else "")
            for label, count in zip(("normal", "tumour"), counts, strict=True)
            for n in range(count)
        ]
        shares = {"test_share": share, "every_label": every_label}
        before = refusal(lambda: check_enough(slides, 1, **shares))  # noqa: B023
        stage = refusal(lambda: make_folds(slides, 1, val_share=0.2, seed=0, **shares))  # noqa: B023
        # Without labels that every split needs, the plan knows less.
        assert bool(before) == bool(stage) or (stage and not every_label), (counts, fixed)
        assert "fewer folds" not in before + stage
        outcomes[bool(before)] += 1
    assert min(outcomes[True], outcomes[False]) > 0
