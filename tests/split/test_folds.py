"""Dividing patients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.errors import DatasetError
from mil.io.tables import Slide
from mil.split.folds import check_folds, make_folds

SHARES = {"val_share": 0.2, "test_share": 0.25}


def cohort(patients, slides_each=2, split=lambda i: ""):
    return [
        Slide(f"s{i}_{k}", f"p{i}", ("normal", "tumour")[i % 2], split=split(i))
        for i in range(patients)
        for k in range(slides_each)
    ]


@given(st.integers(12, 40), st.integers(1, 3), st.integers(1, 5), st.integers(0, 3))
def test_patients_stay_together_and_every_split_has_both_classes(patients, slides_each, folds, seed):
    slides = cohort(patients, slides_each)
    result = make_folds(slides, folds, seed=seed, **SHARES)
    assert len(result) == folds
    for names in result:
        of = {}
        for slide, name in zip(slides, names, strict=True):
            assert of.setdefault(slide.patient, name) == name
        for part in ("train", "val", "test"):
            assert {s.label for s, n in zip(slides, names, strict=True) if n == part} == {"normal", "tumour"}


def test_cross_validation_tests_every_slide_once():
    slides = cohort(20)
    result = make_folds(slides, 5, seed=0, **SHARES)
    assert all(sum(names[i] == "test" for names in result) == 1 for i in range(len(slides)))


def test_the_tables_test_split_is_kept_in_every_fold():
    slides = cohort(20, split=lambda i: "test" if i < 6 else "train")
    for names in make_folds(slides, 3, seed=0, **SHARES):
        assert [n == "test" for n in names] == [s.split == "test" for s in slides]
    result = make_folds(slides, 3, seed=0, **SHARES)
    assert all(sum(n[i] == "val" for n in result) == 1 for i, s in enumerate(slides) if s.split != "test")


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
    with pytest.raises(DatasetError, match=r"only 1 with label 'tumour'; add slides, .* or name the splits"):
        make_folds(slides, 1, seed=0, **SHARES)


def test_training_on_one_class_is_refused():
    rows = [{"fold": 0, "slide": "a", "patient": "a", "label": "normal", "split": "train"}]
    with pytest.raises(DatasetError, match=r"fold 0: the training slides have 1 class\(es\) \(normal\)"):
        check_folds(rows)


def test_a_patient_in_two_splits_is_refused():
    rows = [
        {"fold": 0, "slide": "a", "patient": "p", "label": "normal", "split": "train"},
        {"fold": 0, "slide": "b", "patient": "p", "label": "normal", "split": "test"},
    ]
    with pytest.raises(DatasetError, match="patient p is in two splits"):
        check_folds(rows)


@pytest.mark.parametrize(("test_share", "val_share"), [(0.25, 0.2), (0.4, 0.3), (0.1, 0.5), (0.6, 0.25)])
def test_shares_are_shares_of_the_patients(test_share, val_share):
    slides = cohort(100, slides_each=1)
    names = make_folds(slides, 1, test_share=test_share, val_share=val_share, seed=0)[0]
    assert names.count("test") == pytest.approx(100 * test_share, abs=1)
    assert names.count("val") == pytest.approx((100 - names.count("test")) * val_share, abs=1)


def test_what_the_table_names_is_not_moved():
    slides = cohort(20, split=lambda i: "train" if i < 8 else "val" if i < 12 else "")
    names = make_folds(slides, 1, seed=0, **SHARES)[0]
    for slide, name in zip(slides, names, strict=True):
        assert slide.split in ("", name)
    assert {s.split for s, n in zip(slides, names, strict=True) if n == "test"} == {""}


def test_a_table_of_train_and_val_has_no_test():
    slides = cohort(12, split=lambda i: "train" if i < 8 else "val")
    assert make_folds(slides, 1, seed=0, **SHARES) == [[slide.split for slide in slides]]


def test_fewer_patients_than_folds_is_one_line():
    slides = [Slide(f"s{i}", f"p{i}", "tumour" if i < 3 else "normal") for i in range(30)]
    with pytest.raises(DatasetError, match="into 5 parts: only 3 with label 'tumour'; add slides, take fewer folds"):
        make_folds(slides, 5, seed=0, **SHARES)
