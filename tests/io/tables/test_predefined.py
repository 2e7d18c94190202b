"""Divisions that a file or a column says."""

from pathlib import Path

import pytest

from mil.config import SplitConfig
from mil.errors import ConfigError, DatasetError
from mil.io.tables.predefined import from_file, groups_of, number_of_folds
from tests.split.cohorts import cohort, slide

FOUR = [slide("a", "p1"), slide("b", "p1"), slide("c", "p2"), slide("d", "p3")]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_folds_are_taken_as_they_are(tmp_path):
    first = "0,a,train\n0,b,train\n0,c,val\n0,d,test\n"
    second = "1,a,test\n1,b,test\n1,c,train\n1,d,val\n"
    text = "fold,slide,split\n" + first + second
    folds, notes = from_file(put(tmp_path / "folds.csv", text), FOUR, allow_missing=False)
    assert folds == [["train", "train", "val", "test"], ["test", "test", "train", "val"]]
    assert notes == []


def test_what_has_no_counterpart_is_named_and_left_out_only_when_allowed(tmp_path):
    file = put(tmp_path / "splits_0.csv", ",train,val,test\n0,a,c,x\n1,b,,y\n")
    line = (
        rf"{file}: 1 slides of the table are in no split \(d\); 2 names are no slide of the table "
        r"\(x, y\)\. Mend the file or the table, or go on without them by "
        "--config allow_missing=true, or by --allow-missing of mil split"
    )
    with pytest.raises(DatasetError, match=line):
        from_file(file, FOUR, allow_missing=False)
    folds, notes = from_file(file, FOUR, allow_missing=True)
    assert folds == [["train", "train", "val", ""]]
    assert notes == [
        f"{file}: 1 slides of the table are in no split (d), left out",
        f"{file}: 2 names are no slide of the table (x, y), left out",
    ]


def test_a_patient_in_two_splits_of_the_file_is_refused(tmp_path):
    file = put(tmp_path / "s.csv", "slide,split\na,train\nb,test\nc,val\nd,train\n")
    with pytest.raises(
        DatasetError, match="patient p1 is in two splits: slide a in train, slide b in test"
    ):
        from_file(file, FOUR, allow_missing=False)


def test_that_the_tables_own_splits_are_not_used_is_told(tmp_path):
    file = put(tmp_path / "s.csv", "slide,split\na,train\nb,train\nc,val\nd,test\n")
    slides = [slide("a", split="test"), *FOUR[1:]]
    with pytest.raises(DatasetError, match="names none of the slides"):
        from_file(file, [slide("x")], allow_missing=True)
    assert from_file(file, slides, allow_missing=False)[1] == [
        f"the table's column `split` is not used: {file} says the splits"
    ]


def folds(slides=FOUR, folds=1, **config):
    return number_of_folds(SplitConfig(**config), folds, slides, allow_missing=False)


def test_the_number_of_folds_is_known_beforehand(tmp_path):
    file = put(
        tmp_path / "f.csv",
        "slide,fold_0,fold_1\na,train,test\nb,train,test\nc,test,train\nd,val,train\n",
    )
    centres = cohort(6, centre=lambda i: "xyz"[i % 3])
    assert folds(folds=5) == 5
    assert folds(file=str(file)) == folds(file=str(file), folds=2) == 2
    assert folds(centres, by="centre") == folds(centres, by="centre", folds=3) == 3
    with pytest.raises(
        ConfigError, match=rf"folds: 5, but {file} gives 2; leave folds out, or say folds=2"
    ):
        folds(file=str(file), folds=5)
    with pytest.raises(
        ConfigError, match="folds: 2, but column 'centre' gives 3; leave folds out, or say folds=3"
    ):
        folds(centres, by="centre", folds=2)
    with pytest.raises(ValueError, match="file and by both define the folds; keep one"):
        SplitConfig(file="x", by="y")


def test_columns_that_cannot_be_left_out_in_turn():
    centres = cohort(
        4, centre=lambda i: "xy"[i % 2], empty=lambda i: "" if i else "x", one=lambda i: "x"
    )
    assert groups_of(centres, "centre") == ["x", "x", "y", "y"] * 2
    with pytest.raises(
        DatasetError,
        match=r"split.by: no column named 'center'; did you mean 'centre'\? there are: c",
    ):
        groups_of(centres, "center")
    with pytest.raises(
        DatasetError, match="no column named 'centre'; the table has no columns beyond those"
    ):
        groups_of(FOUR, "centre")
    with pytest.raises(DatasetError, match="set folds to the number of folds"):
        groups_of(FOUR, "patient")
    with pytest.raises(
        DatasetError,
        match=r"split.by: 6 slides have no empty \(s1_0, s1_1, s2_0 and 3 more\); fill",
    ):
        groups_of(centres, "empty")
    with pytest.raises(
        DatasetError, match=r"split\.by: all slides have the one 'x'; leaving it out leaves nothing"
    ):
        groups_of(centres, "one")
    torn = [slide("a", "p", centre="x"), slide("b", "p", centre="y")]
    line = (
        r"patient p has two values of centre: x \(slide a\) and y \(slide b\); "
        "no fold could keep them together"
    )
    with pytest.raises(DatasetError, match=line):
        groups_of(torn, "centre")
