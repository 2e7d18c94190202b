"""CAMELYON+ from a table like the published one."""

import openpyxl
import pytest

from mil.dataset.camelyon_plus import make
from mil.errors import DatasetError
from mil.io.tables import read_csv, read_dataset
from tests.interop.layouts import mil
from tests.messages import one_line

ROWS = [
    ("normal_001", "negative"),
    ("normal_020.tif", "ITC"),
    ("tumor_001", "macro"),
    ("test_001", "micro"),
    ("patient_017_node_2", "negative"),
    ("patient_100_node_0.tif", "Macro"),
]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "Camelyon+(4-classes).xlsx", ROWS)


def write(path, rows):
    book = openpyxl.Workbook()
    for row in [("slide", "label"), *rows]:
        book.active.append(row)
    book.save(path)
    return path


def test_its_slides_of_camelyon16_are_a_dataset_with_the_official_splits(table):
    code, text = mil("dataset", "camelyon-plus", table)
    assert code == 0, text
    assert "dataset camelyonplus: 4 slides (normal 1, tumour 3)" in text
    assert "corrected: 1 slides are not what their name says: normal_020" in text
    assert "left out by CAMELYON+: 395 slides of CAMELYON16" in text
    official = {row.slide: row.split for row in read_dataset("camelyon16")[1]}
    dataset, rows = read_dataset("camelyonplus")
    assert dataset.classes == ["normal", "tumour"]
    assert {row.slide: row.label for row in rows} == {
        "normal_001": "normal",
        "normal_020": "tumour",
        "test_001": "tumour",
        "tumor_001": "tumour",
    }
    assert all(row.split == official[row.slide] for row in rows)


@pytest.mark.slow
def test_four_classes_of_both_challenges(table):
    code, text = mil("dataset", "camelyon-plus", table, "--part", "both", "--classes", 4)
    assert code == 0, text
    written = read_csv(table.parent / "configs/datasets/camelyonplus.csv")
    rows = {row["slide"]: row for row in written}
    node = rows["patient_100_node_0"]
    assert (node["patient"], node["label"], node["split"]) == ("patient_100", "macro", "test")
    assert rows["patient_017_node_2"]["split"] == "train"
    assert rows["normal_020"]["label"] == "itc"


@pytest.mark.slow
def test_another_table_is_refused_with_all_its_faults(table):
    wrong = [
        ("slide_9", "macro"),
        ("normal_086", "negative"),
        ("normal_002", "large"),
        ("normal_001", "macro"),
    ]
    write(table, [*ROWS, *wrong])
    code, text = mil("dataset", "camelyon-plus", table)
    assert code == 1
    assert "is no slide of CAMELYON16 or 17" in text
    assert "slide slide_9" in text
    assert "slide normal_086" in text
    assert "label 'large' is none of negative, itc, micro, macro" in text
    assert "is there twice" in text
    assert not (table.parent / "configs").exists()


@pytest.mark.slow
def test_an_address_and_an_existing_dataset_are_one_line(table):
    code, text = mil("dataset", "camelyon-plus", "https://x.org/t.csv?a=1&b=2")
    assert code == 1
    assert "mil fetch --url 'https://x.org/t.csv?a=1&b=2' --out table.csv" in " ".join(text.split())
    mil("dataset", "camelyon-plus", table)
    code, text = mil("dataset", "camelyon-plus", table)
    assert code == 1
    assert "is there already" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("case,label\nx,macro\n", "no column 'slide'; give that of the slides this name, as in"),
        ("slide,grade\nnormal_001,macro\n", "no column 'label'; give that of the labels this"),
        ("slide,label\nslide_9,macro\n", "line 2: slide slide_9 is no slide of CAMELYON16 or 17"),
        ("slide,label\nnormal_001,big\n", "line 2: slide normal_001: label 'big' is none of"),
    ],
)
def test_faults_of_a_table_are_whole_sentences(tmp_path, content, message):
    table = tmp_path / "t.csv"
    table.write_text(content)
    with one_line(DatasetError) as caught:
        make(table, "plus", tmp_path, part="both", classes=2, force=False)
    assert f"{table}: {message}" in str(caught.value)
