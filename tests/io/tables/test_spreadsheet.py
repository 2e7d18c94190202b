"""Tables as people write them are read; damaged and hostile ones are one line."""

import os
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from mil.config import DatasetConfig
from mil.errors import DatasetError, FormatError
from mil.io.tables import read_csv, read_slides, text_files
from mil.io.tables import workbook as workbooks
from mil.io.tables.predefined import groups_of
from mil.io.tables.slides import table_notes
from mil.io.tables.spreadsheet import read_sheet
from tests.messages import one_line

CLASSES = DatasetConfig(classes=["normal", "tumour"])
PLAIN = "slide,label,mpp\nMüller,normal,\nb,tumour,\n"
CELLS = [("Müller", "normal"), ("b", "tumour")]


def cells_of(path: Path) -> list[tuple[str, str]]:
    return [(row["slide"], row["label"]) for _, row in read_sheet(path).rows]


def workbook(path: Path, *rows: list[object], merged: tuple[str, ...] = ()) -> Path:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    for cells in merged:
        book.active.merge_cells(cells)
    book.save(path)
    return path


def repacked(path: Path, part: str, change) -> None:
    """Change a part of a workbook."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        for name, content in parts.items():
            book.writestr(name, change(content) if name == part else content)


SHEET = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize(
    ("encoding", "separator"),
    [("utf-8", ";"), ("utf-8-sig", ","), ("utf-16", "\t"), ("utf-16-le", "|"), ("cp1252", ";")],
)
def test_any_encoding_and_separator(tmp_path, encoding, separator):
    path = tmp_path / "t.csv"
    path.write_bytes(PLAIN.replace(",", separator).encode(encoding))
    assert cells_of(path) == CELLS
    assert [slide.slide for slide in read_slides(path, CLASSES)] == ["Müller", "b"]
    told = [note for note in read_sheet(path).notes if "Windows-1252" in note]
    assert ["such as 'Müller'" in note for note in told] == [True] * (encoding == "cp1252")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffsep=;\r\nslide;label\r\nMüller;normal\r\nb;tumour\r\n",
        '"sep=,"\nslide,label\nMüller,normal\nb,tumour\n',
        "SEP=\t\nslide\tlabel\nMüller\tnormal\nb\ttumour\n",
        'slide,label,"notes; a; b; c; d"\nMüller,normal,\nb,tumour,x;y\n',
        "slide,label,a;b;c;d\nMüller,normal,\nb,tumour,\n",
        'slide;label;mpp\nMüller;normal;0,25\nb;tumour;"0,5"\n',
        "slide,label\rMüller,normal\rb,tumour\r",
        "Study 7, all centres\nas of,2024\n\nslide,label\nMüller,normal\nb,tumour\n",
        "slide,\u200blabel\u00a0\nMu\u0308ller,nor\u00admal\n\ufeffb,tumour\n",
    ],
)
def test_tables_that_people_write(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    assert cells_of(path) == CELLS
    assert [(slide.slide, slide.label) for slide in read_slides(path, CLASSES)] == CELLS


def test_decimal_commas_are_the_same_for_the_run(tmp_path):
    (tmp_path / "t.csv").write_text("slide;label;mpp\na;normal;0,25\nb;tumour;0.5\n")
    assert [slide.mpp for slide in read_slides(tmp_path / "t.csv", CLASSES)] == [0.25, 0.5]
    regression = DatasetConfig(task="regression")
    (tmp_path / "t.csv").write_text("slide;label\na;27,5\nb;3\n")
    assert [slide.label for slide in read_slides(tmp_path / "t.csv", regression)] == ["27.5", "3"]
    (tmp_path / "t.csv").write_text("slide;label\na;1,234\nb;3\n")
    with one_line(DatasetError, "1,234 could be a thousand"):
        read_slides(tmp_path / "t.csv", regression)


def test_merged_cells_are_filled_and_told(tmp_path):
    path = workbook(
        tmp_path / "t.xlsx",
        ["patient", "slide", "label"],
        ["p", "a", "normal"],
        [None, "b", "normal"],
        ["q", "c", "tumour"],
        [None, "d", "tumour"],
        [None, "e", "normal"],
        merged=("A2:A3", "A4:A6", "C4:C5"),
    )
    sheet = read_sheet(path)
    assert [row["patient"] for _, row in sheet.rows] == ["p", "p", "q", "q", "q"]
    assert "4 cells filled from merged cells (A2:A3, C4:C5, A4:A6)" in sheet.notes


def test_titles_above_the_header_and_two_headers(tmp_path):
    path = workbook(
        tmp_path / "t.xlsx",
        ["Study of 2024"],
        [],
        ["slide", "clinical", None],
        [None, "label", "age"],
        ["a", "normal", 50],
        merged=("A1:C1", "A3:A4", "B3:C3"),
    )
    sheet = read_sheet(path)
    assert sheet.rows == [(5, {"slide": "a", "label": "normal", "age": "50"})]
    assert "the header is line 4; 2 lines above it left out" in sheet.notes


def test_the_first_sheet_with_cells_is_read_and_told(tmp_path):
    book = Workbook()
    hidden = book.create_sheet("old")
    hidden.append(["slide", "label"])
    hidden.sheet_state = "hidden"
    cases = book.create_sheet("cases")
    for row in (["slide", "label"], ["a", "normal"]):
        cases.append(row)
    book.save(tmp_path / "t.xlsx")
    sheet = read_sheet(tmp_path / "t.xlsx")
    assert sheet.rows == [(2, {"slide": "a", "label": "normal"})]
    assert "first sheet with cells 'cases' was read, not Sheet" in sheet.notes


def test_formulas_without_values_are_told(tmp_path):
    path = workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "=1+1"], ["b", "=A1"])
    assert any("2 formulas have no stored value" in note for note in read_sheet(path).notes)


def test_a_workbook_is_known_by_its_contents(tmp_path):
    workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "normal"]).rename(tmp_path / "t.csv")
    assert cells_of(tmp_path / "t.csv") == [("a", "normal")]


def test_cells_beside_the_table_of_a_workbook_are_left_out(tmp_path):
    path = workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "normal", "ask Anna, please"])
    sheet = read_sheet(path)
    assert sheet.rows == [(2, {"slide": "a", "label": "normal"})]
    assert "1 cells right of the header's columns left out" in sheet.notes


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (SHEET, lambda xml: xml[:300]),
        (SHEET, lambda xml: b""),
        (SHEET, lambda xml: xml.replace(b'r="B2"', b'r="ZZZZZ2"')),
        ("xl/styles.xml", lambda xml: xml[:-50]),
        ("xl/workbook.xml", lambda xml: xml.replace(b"sheetId", b"&x;")),
        ("[Content_Types].xml", lambda xml: b"<x/>"),
    ],
)
def test_damaged_workbooks_are_one_line(tmp_path, part, change):
    path = workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "normal"])
    repacked(path, part, change)
    with one_line(DatasetError) as caught:
        read_sheet(path)
    assert "save it as .xlsx or .csv again" in str(caught.value)


def test_a_row_far_below_is_not_waited_for(tmp_path):
    path = workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "normal"], ["b", "tumour"])
    repacked(path, SHEET, lambda xml: xml.replace(b'<row r="3"', b'<row r="99999999999"'))
    sheet = read_sheet(path)
    assert sheet.rows == [(2, {"slide": "a", "label": "normal"})]
    assert "rows below 20000 blank ones were not read" in sheet.notes


def test_a_cut_off_workbook_is_one_line(tmp_path):
    path = workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "normal"])
    path.write_bytes(path.read_bytes()[:-200])
    with one_line(DatasetError, "not an .xlsx file, or damaged"):
        read_sheet(path)


def test_a_bomb_is_refused_by_what_it_would_unpack_to(tmp_path, monkeypatch):
    monkeypatch.setattr(workbooks, "LARGEST_UNPACKED_BYTES", 5_000_000)
    path = workbook(tmp_path / "t.xlsx", ["slide", "label"], ["a", "normal"])
    repacked(path, SHEET, lambda xml: xml + bytes(7_000_000))
    assert path.stat().st_size < 50_000
    with one_line(DatasetError, "unpacks to 7 MB in .* parts, at most 5 MB"):
        read_sheet(path)


def test_pipes_folders_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        for read in (read_sheet, lambda file: read_slides(file, CLASSES)):
            with one_line(DatasetError, "is a pipe or a device"):
                read(path)
    with one_line(DatasetError, "is a folder; name a file"):
        read_sheet(tmp_path / "folder.csv")
    with one_line(FormatError, "is a pipe or a device"):
        read_csv(tmp_path / "pipe.csv")


def wide_table(path: Path, num_rows: int) -> Path:
    """20,000 genes of each slide."""
    columns = ",".join(f"gene{number}" for number in range(20_000))
    path.write_text(f"slide,label,{columns}\n" + f"a,normal{',1' * 20_000}\n" * num_rows)
    return path


def test_many_columns_take_linear_time_and_too_many_cells_are_refused(tmp_path, monkeypatch):
    path = wide_table(tmp_path / "t.csv", num_rows=1)
    assert len(read_sheet(path).header) == 20_002
    monkeypatch.setattr(text_files, "MOST_CELLS", 30_000)
    with one_line(DatasetError, "million cells; leave out columns"):
        read_sheet(path)


@pytest.mark.slow
def test_over_two_million_cells_are_refused(tmp_path):
    with one_line(DatasetError, "over 2 million cells"):
        read_sheet(wide_table(tmp_path / "t.csv", num_rows=120))


def test_an_unclosed_quote_does_not_swallow_the_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('slide,label\na,"normal\nb,tumour\n')
    with one_line(DatasetError, "begins with a quote that is never closed"):
        read_sheet(path)
    path.write_text('slide,label,core\na,normal,6" x\nb,"tumour" ,\n')
    assert cells_of(path) == [("a", "normal"), ("b", "tumour")]


@pytest.mark.parametrize("word", ["", "NA", "NULL", "None", "-", "#REF!", "#N/A", "n/a", "nan"])
def test_some_patients_empty_are_refused_by_number_and_name(tmp_path, word):
    path = tmp_path / "t.csv"
    path.write_text(f"slide,patient,label\na,p,normal\nb,{word},tumour\nc,{word},tumour\n")
    with one_line(DatasetError, "2 of 3 slides have no patient in column 'patient' .b, c.; fill"):
        read_slides(path, CLASSES)


def test_all_patients_empty_are_no_column_of_patients(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("slide,patient,label\na,NA,normal\nb,,tumour\n")
    assert [slide.patient for slide in read_slides(path, CLASSES)] == ["a", "b"]


def test_words_for_empty_count_in_every_column_but_classes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("slide,label,site,mpp\na,none,NULL,-\nb,tumour,X,0.5\n")
    slides = read_slides(path, DatasetConfig(classes=["none", "tumour"]))
    assert [(slide.label, slide.subgroups, slide.mpp) for slide in slides] == [
        ("none", {"site": ""}, None),
        ("tumour", {"site": "X"}, 0.5),
    ]
    with one_line(DatasetError, r"slide a has no label \('none'\)"):
        read_slides(path, CLASSES)


def test_a_label_that_only_looks_like_a_class_is_shown_with_escapes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("slide,label\na,n\u043ermal\n", encoding="utf-8")
    with one_line(DatasetError, r"'n\\u043ermal' only looks like 'normal'"):
        read_slides(path, CLASSES)


def test_empty_cells_of_a_column_to_divide_by_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("slide,label,site\na,normal,X\nb,tumour,n/a\nc,tumour,#REF!\nd,normal,Y\n")
    with one_line(DatasetError, r"2 slides have no site \(b, c\)"):
        groups_of(read_slides(path, CLASSES), "site")


@pytest.mark.parametrize(("label", "name"), [("0", "0"), ("0.0", "0"), ("1e0", "1"), ("01", "1")])
def test_equal_numbers_are_one_class(tmp_path, label, name):
    path = tmp_path / "t.csv"
    path.write_text(f"slide,label\na,{label}\n")
    assert read_slides(path, DatasetConfig(classes=["0", "1"]))[0].label == name
    several = DatasetConfig(task="multilabel", classes=["0", "1"])
    assert read_slides(path, several)[0].label == name


def test_all_faults_are_in_one_answer(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "slide,label,split,mpp,patient\na,normal,trian,40x,p\nb,tumor,test,,p\nc,tumor,train,,p\n"
        "d,tumor,train,,\nd,normal,train,,q\nx/y,normal,,,q\n"
    )
    with pytest.raises(DatasetError) as caught:
        read_slides(path, CLASSES)
    first, *faults = str(caught.value).splitlines()
    assert first == f"{path}: {len(faults)} faults:"
    assert [fault.strip(" -").partition(";")[0] for fault in faults] == [
        "line 2: slide a: no split named 'trian'",
        "line 2: slide a: mpp '40x' is not a number of micrometres per pixel, such as 0.25",
        "line 3: slide b: label 'tumor'",
        "line 7: slide id 'x/y' cannot be a file name",
        "1 of 6 slides have no patient in column 'patient' (d)",
    ]
    assert "(and so 2 more: line 4: slide c, line 5: slide d)" in str(caught.value)


def test_notes_for_the_doctor(tmp_path):
    (tmp_path / "t.yaml").write_text("classes: [normal, tumour, Tumour]\n")
    (tmp_path / "t.csv").write_bytes(
        "slide;label;case_id;site;split\nä;normal;P1;X;train\nb;tumour;p1;;\nc;tumour;p2;Х;\n".encode()
    )
    assert table_notes(str(tmp_path / "t.yaml")) == [
        "no column for the patient: each slide counts as a patient of its own; if 'case_id' has "
        "them: `columns: {patient: case_id}`",
        "column 'site': 1 of 3 cells are empty (b)",
        "column 'split': 2 of 3 cells are empty (b, c)",
        "column 'case_id': values that look alike ('P1' and 'p1')",
        "column 'site': values that look alike ('X' and '\\u0425')",
        "classes that look alike ('Tumour' and 'tumour') are learnt as different ones",
    ]
