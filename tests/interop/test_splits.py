"""One file of splits of any tool, taken into the table of an imported dataset."""

import json

import pytest

from tests.interop.layouts import CLAM_TABLE, import_dataset, put_text, write_trident


@pytest.fixture
def job(tmp_path):
    for seed, slide in enumerate(("001", "002", "003", "004")):
        write_trident(tmp_path / "job", slide, seed=seed)
    return tmp_path / "job"


SPLITS = {
    "splits_0.csv": ",train,val,test\n0,001,003,004\n1,002,,\n",
    "splits_0_bool.csv": (
        ",train,val,test\n001,True,False,False\n002,True,False,False\n"
        "003,False,True,False\n004,False,False,True\n"
    ),
    "k=all.tsv": (
        "case_id\tslide_id\tfold_0\np1\t001\ttrain\np1\t002\ttrain\np2\t003\tval\np3\t004\ttest\n"
    ),
    "ours.csv": "fold,slide,split\n0,001,train\n0,002,train\n0,003,val\n0,004,test\n",
    "table.csv": "slide,split\n001,training\n002,training\n003,validation\n004,testing\n",
    "split_1.json": json.dumps(
        {"train_names": ["001", "002"], "val_names": ["003"], "test_names": ["004"]}
    ),
    "splits.json": json.dumps(
        {"splits": [{"train_patients": ["p1", "p2"], "test_patients": ["p3"]}]}
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_one_file_of_splits(job, name):
    split = put_text(job.parent / name, SPLITS[name])
    code, output, rows = import_dataset(
        job, "--labels", put_text(job.parent / "labels.csv", CLAM_TABLE), "--split", split
    )
    assert code == 0, output
    third = "train" if name == "splits.json" else "val"  # STAMP's file names no validation
    assert {slide: row.split for slide, row in rows.items()} == {
        "001": "train",
        "002": "train",
        "003": third,
        "004": "test",
    }


def test_slides_and_names_without_each_other(job):
    split = put_text(job.parent / "splits_0.csv", ",train,val,test\n0,001,003,099\n1,002.svs,,\n")
    code, output, rows = import_dataset(
        job, "--labels", put_text(job.parent / "labels.csv", CLAM_TABLE), "--split", split
    )
    assert (code, sorted(rows)) == (0, ["001", "002", "003"])
    assert "1 slides in no split, left out of the dataset: 004" in output
    assert "1 names in the splits without a slide: 099" in output


TWO = json.dumps({"splits": [{"train_patients": ["p1"], "test_patients": ["p2", "p3"]}] * 2})


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "s.csv",
            ",train,val,test\n0,001,002,003\n",
            "patient p1 is in two splits: slide 001 in train, slide 002 in",
        ),
        (
            "s.csv",
            ",train,val,test\n0,001,003,004\n1,002,,001\n",
            "001 is in train and in test; keep one",
        ),
        (
            "s.csv",
            ",train,val,test\n0,091,093,094\n",
            "names none of the slides; it has such as '091'",
        ),
        ("s.csv", "a,b\n1,2\n", "no column for the slide"),
        ("s.csv", "slide,split\n001,holdout\n", "split 'holdout' is none of train, val, test"),
        ("s.csv", "slide,group\n001,train\n", "not a file of splits that is known here"),
        ("s.json", "{", "not JSON"),
        (
            "s.json",
            '{"train_names": [1], "val_names": [], "test_names": []}',
            "not a file of splits",
        ),
        ("s.json", "[1, 2]", "not a file of splits"),
        ("s.json", TWO, "has the folds 0, 1; choose one with --fold"),
        ("s.pkl", "x", "not a file of splits"),
    ],
)
def test_splits_that_cannot_be(job, name, text, line):
    split = put_text(job.parent / name, text)
    code, output, rows = import_dataset(
        job, "--labels", put_text(job.parent / "labels.csv", CLAM_TABLE), "--split", split
    )
    assert (code, rows) == (1, {})
    assert line in output
    assert not (job.parent / "bags").exists()
