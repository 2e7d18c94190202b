"""Files of splits, told by what is in them."""

import json

import pytest

from mil.errors import DatasetError
from mil.io.tables import Slide
from mil.io.tables.splits import read_split_file, split_files, splits_of

SLIDES = [
    Slide(name, patient, "x")
    for name, patient in (("001", "p1"), ("002", "p1"), ("003", "p2"), ("004", "p3"))
]
FIRST = {"001": "train", "002": "train", "003": "val", "004": "test"}
SECOND = {"001": "test", "002": "test", "003": "train", "004": "val"}
PARTS = [
    {s: [name for name, split in of.items() if split == s] for s in ("train", "val", "test")}
    for of in (FIRST, SECOND)
]
CLAM = [
    ",train,val,test\n0,001,003,004\n1,002,,\n",
    "train,val,test\n003,004.svs,slides/001.svs\n,,002\n",
]
ACMIL = [json.dumps({f"{split}_names": names for split, names in part.items()}) for part in PARTS]
TWO = {
    "k=all.tsv": "case_id\tslide_id\tfold_0\tfold_1\np1\t001\ttrain\ttest\np1\t002\ttrain\ttest\n"
    "p2\t003\tval\ttrain\np3\t004\ttest\tval\n",
    "folds2.csv": "fold,slide,patient,label,split\n"
    + "".join(
        f"{k},{slide},p,x,{split}\n"
        for k, of in enumerate((FIRST, SECOND))
        for slide, split in of.items()
    ),
    "splits.json": json.dumps(
        {
            "splits": [
                {"train_patients": ["p1"], "val_patients": ["p2"], "test_patients": ["p3"]},
                {"train_patients": ["p2"], "val_patients": ["p3"], "test_patients": ["p1"]},
            ]
        }
    ),
}


def read(path):
    file = read_split_file(path)
    return {number: splits_of(file, number, SLIDES).of for number in file.folds}


@pytest.mark.parametrize("name", TWO)
def test_a_file_of_several_folds(tmp_path, name):
    (tmp_path / name).write_text(TWO[name])
    assert read(tmp_path / name) == {0: FIRST, 1: SECOND}


@pytest.mark.parametrize(
    ("pattern", "texts", "first"), [("splits_{}.csv", CLAM, 0), ("split_{}.json", ACMIL, 1)]
)
def test_a_folder_of_files_with_a_fold_each(tmp_path, pattern, texts, first):
    """Other files beside them do no harm, and numbers are numbers: 10 comes after 9."""
    (tmp_path / "splits_0_bool.csv").write_text("not looked at")
    (tmp_path / "splits_0_descriptor.csv").write_text("not looked at")
    for number in (first, first + 1, 10):
        (tmp_path / pattern.format(number)).write_text(texts[number == first + 1])
    assert read(tmp_path) == {first: FIRST, first + 1: SECOND, 10: FIRST}
    assert [file.name for file in split_files(tmp_path)] == [
        pattern.format(n) for n in (first, first + 1, 10)
    ]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {},
            r"holds no splits_0\.csv \(CLAM\) or split_1\.json \(ACMIL\); give the file of splits",
        ),
        (
            {"splits_0.csv": CLAM[0], "split_1.json": ACMIL[0]},
            "holds files of two tools, split_1.json, splits_0",
        ),
        (
            {"splits_0.csv": TWO["folds2.csv"]},
            r"splits_0\.csv: has 2 folds, but a file of a folder holds",
        ),
    ],
)
def test_a_folder_that_is_none_of_splits(tmp_path, files, line):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=line):
        read_split_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("s.csv", "fold,slide,split\nfirst,001,train\n", "slide 001: fold 'first' is no number"),
        ("s.csv", "fold,slide,split\n", "the table has no rows"),
        ("s.json", '{"splits": []}', "has no fold"),
        (
            "s.json",
            '{"splits": [{"train_patients": "p1"}]}',
            "not a file of splits that is known here",
        ),
        ("s.csv", "", "the file is empty"),
        ("s.csv", "a,split\n001,train\n", "no column for the slide; call it `slide`"),
        (
            "s.csv",
            "slide,slide,split\n001,002,train\n",
            "the column 'slide' is there twice; rename or remove one",
        ),
    ],
)
def test_a_file_that_is_none_of_splits(tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=line):
        read_split_file(tmp_path / name)


def test_patients_are_compared_as_they_are(tmp_path):
    """Numbers of cases have slashes and dots: H19/7 is not H20/7."""
    part = {"train_patients": ["H19/7", "p.h5"], "test_patients": ["H20/7", "P.h5"]}
    (tmp_path / "splits.json").write_text(json.dumps({"splits": [part]}))
    rows = [
        Slide(f"s{i}", patient, "x")
        for i, patient in enumerate(["H19/7", "H20/7", "p.h5", "P.h5", "7"])
    ]
    found = splits_of(read_split_file(tmp_path / "splits.json"), 0, rows)
    assert found.of == {"s0": "train", "s1": "test", "s2": "train", "s3": "test"}
    assert found.without_split == ["s4"]


def test_no_file(tmp_path):
    with pytest.raises(DatasetError, match=r"nothing\.csv: no such file of splits"):
        read_split_file(tmp_path / "nothing.csv")
