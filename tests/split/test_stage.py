"""The stage as a whole: table and bags in, folds.csv out, or one line and nothing."""

import numpy as np
import pytest

from mil.errors import MilError
from mil.io.tables import read_csv
from tests.messages import one_line
from tests.split.cohorts import cohort, divide, slide, write_study, written

TWELVE = written(cohort(12, slides_each=1, centre=lambda i: "xyz"[i // 2 % 3]))


def test_a_division_is_used_again(tmp_path):
    rows, notes = divide(write_study(tmp_path, TWELVE), folds=3)
    assert notes == "12 in, 12 out"
    assert list(rows[0]) == ["fold", "slide", "patient", "label", "split"]
    (tmp_path / "out/folds.csv").rename(tmp_path / "own.csv")
    again, notes = divide(tmp_path, file=str(tmp_path / "own.csv"), seed=9, val_share=0.5)
    assert (again, notes) == (rows, "12 in, 12 out")


def test_one_centre_is_left_out_in_turn_and_named(tmp_path):
    rows, notes = divide(write_study(tmp_path, TWELVE), by="centre")
    assert notes == "12 in, 12 out"
    tested = {
        row["slide"]: (row["fold"], row["held_out"]) for row in rows if row["split"] == "test"
    }
    assert len(tested) == 12
    assert tested["s0_0"] == ("0", "x")
    assert tested["s2_0"] == ("1", "y")
    assert tested["s11_0"] == ("2", "z")
    assert all(row["held_out"] == "xyz"[int(row["fold"])] for row in rows)


def test_a_file_without_validation_gets_one_and_says_so(tmp_path):
    write_study(tmp_path, TWELVE)
    lines = [f"s{i}_0,{'test' if i < 4 else 'train'}" for i in range(12)]
    (tmp_path / "own.csv").write_text("\n".join(["slide,split", *lines]))
    rows, notes = divide(tmp_path, file=str(tmp_path / "own.csv"), val_share=0.25)
    assert [row["split"] for row in rows[:4]] == ["test"] * 4
    assert sorted(row["label"] for row in rows if row["split"] == "val") == ["normal", "tumour"]
    assert notes.splitlines()[1:] == [
        f"note: {tmp_path}/own.csv names no val: 0.25 of the training patients are drawn for it"
    ]


def test_conflicting_labels_of_a_patient_are_divided_slide_by_slide(tmp_path):
    slides = [*cohort(12), *(slide(f"s{i}_x", f"p{i}", "tumour") for i in range(0, 12, 4))]
    for folds in (1, 3):
        rows, _ = divide(write_study(tmp_path, written(slides)), folds=folds)
        assert len(rows) == folds * len(slides)
        for fold in range(folds):
            of = {(row["patient"], row["split"]) for row in rows if row["fold"] == str(fold)}
            assert len(of) == 12


def test_duplicates_of_two_patients_are_refused(tmp_path):
    same = np.full((3, 4), 7)
    write_study(tmp_path, TWELVE, {"s3_0": same, "s8_0": same})
    with pytest.raises(
        MilError,
        match=r"fold \d: slide s3_0 is in \w+ and its duplicate s8_0 in \w+ \(the same features\)",
    ):
        divide(tmp_path, folds=3)
    assert not (tmp_path / "out").exists()


def test_duplicates_of_one_patient_are_reported(tmp_path):
    same = np.full((3, 4), 7)
    write_study(tmp_path, written(cohort(12)), {"s3_0": same, "s3_1": same})
    notes = divide(tmp_path, folds=3)[1]
    assert notes.splitlines()[1:] == [
        "note: slides s3_0 and s3_1 are duplicates (the same features) and count twice; one "
        "may leave the table"
    ]


def official(*splits, labels=("normal", "tumour")):
    return "slide,label,split\n" + "".join(
        f"s{i},{labels[i % 2]},{split}\n" for i, split in enumerate(splits)
    )


LINES = {
    "one class": (
        official("", "", "", "", labels=("normal", "normal")),
        {},
        "all 4 slides of the table have",
    ),
    "no label": (
        "slide,label\na,\nb,tumour\n",
        {},
        "line 2: slide a has no label; the dataset's classes are",
    ),
    "NaN": (
        "slide,label\na,NaN\nb,tumour\n",
        {},
        "line 2: slide a has no label ('NaN'); the dataset's classes are",
    ),
    "three slides": (
        "slide,label\na,normal\nb,tumour\nc,normal\n",
        {},
        "only 1 with label 'tumour'; add slides",
    ),
    "three slides, three splits": (
        official("train", "val", "test"),
        {},
        "the training slides have 1 class",
    ),
    "more folds than patients": (
        TWELVE,
        {"folds": 13},
        "cannot divide 12 patients into 13 parts; add slides",
    ),
    "training of one class": (
        official("train", "test", "train", "val"),
        {},
        "the training slides have 1 class",
    ),
    "no training": (
        official("val", "val", "test", "test"),
        {},
        "the training slides have 0 class(es) (none)",
    ),
    "no such column": (
        TWELVE,
        {"by": "hospital"},
        "split.by: no column named 'hospital'; there are: centre",
    ),
    "no such file": (TWELVE, {"file": "nowhere.csv"}, "nowhere.csv: no such file of splits"),
    "a centre with all of a class": (
        "slide,label,centre\na,normal,x\nb,normal,x\nc,normal,x\nd,tumour,y\ne,tumour,y\n",
        {"by": "centre"},
        "fold 0: the training slides have 1 class(es) (tumour)",
    ),
    "early, two labels": (
        "slide,patient,label\na,p,normal\nb,p,tumour\nc,q,normal\n",
        {"fusion": "early"},
        "d.csv: patient p has two labels",
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_what_cannot_be_divided_is_one_line_and_nothing_is_written(tmp_path, case):
    table, settings, line = LINES[case]
    write_study(tmp_path, table)
    with one_line(MilError) as error:
        divide(tmp_path, **settings)
    assert line in str(error.value)
    assert not (tmp_path / "out").exists()


def test_splits_without_positives_that_the_table_names_are_notes(tmp_path):
    write_study(tmp_path, official("train", "train", "val", "train", "test"))
    assert divide(tmp_path)[1].splitlines()[1:] == [
        "note: fold 0: no val slides with label tumour; the epoch is chosen on what there is",
        "note: fold 0: no test slides with label tumour; metrics that need it are left empty",
    ]


def test_a_centre_of_one_class_is_notes(tmp_path):
    table = "slide,label,centre\n" + "".join(
        f"s{i},{('normal', 'tumour')[i % 2 and i < 8]},{'xyz'[i // 4]}\n" for i in range(12)
    )
    notes = divide(write_study(tmp_path, table), by="centre")[1]
    assert notes.splitlines()[1:] == [
        "note: fold 2: no test slides with label tumour; metrics that need it are of all folds "
        "together"
    ]


def test_a_slide_that_is_lost_moves_nobody(tmp_path):
    before, _ = divide(write_study(tmp_path, TWELVE), folds=3)
    (tmp_path / "bags/s5_0.h5").unlink()
    with pytest.raises(MilError, match="1 of 12 slides cannot be used"):
        divide(tmp_path, folds=3)
    after, notes = divide(tmp_path, folds=3, allow_missing=True)
    assert after == [row for row in before if row["slide"] != "s5_0"]
    assert notes.splitlines()[0] == "12 in, 11 out, 1 no_bag"


def test_early_fusion_says_the_bag_of_each_slide(tmp_path):
    divide(write_study(tmp_path, written(cohort(12))), fusion="early")
    assert all(row["bag"] == row["patient"] for row in read_csv(tmp_path / "out/folds.csv"))
