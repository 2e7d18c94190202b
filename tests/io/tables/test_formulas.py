"""Cells that a spreadsheet program would run are shown by it, and read back as they were."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.io.tables import read_csv, write_csv
from mil.io.tables.formulas import escaped, unescaped
from mil.io.tables.spreadsheet import read_sheet

FORMULAS = [
    '=HYPERLINK("http://host","x")',
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    " =1+1",
    "\uff1d1+1",
]
HARMLESS = [
    "a",
    "TCGA-1",
    "a=b",
    "-0.5",
    "+1e-5",
    "-1,5",
    "-",
    "=",
    "'quoted'",
    "",
    "-inf",
    "\u00e9",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_becomes_text_and_comes_back(cell):
    assert escaped(cell) == f"'{cell}"
    assert unescaped(f"'{cell}") == cell
    # A text that looks like an escaped one comes back, too.
    assert unescaped(escaped(f"'{cell}")) == f"'{cell}"


@pytest.mark.parametrize("cell", HARMLESS)
def test_other_cells_stay_as_they_are(cell):
    assert escaped(cell) == cell
    assert unescaped(cell) == cell


@given(st.text(alphabet="'=+-@\t a1.,", max_size=8))
def test_every_cell_comes_back(cell):
    assert unescaped(escaped(cell)) == cell


def test_numbers_are_no_text():
    assert escaped(-1.5) == -1.5


def test_tables_hold_no_formula_and_read_back(tmp_path):
    path = tmp_path / "a.csv"
    row = {"slide": "=1+1", "@site": "+x", "p_tumour": "-0.25"}
    write_csv(path, [row])
    cells = [cell for line in csv.reader(path.read_text().splitlines()) for cell in line]
    assert cells == ["slide", "'@site", "p_tumour", "'=1+1", "'+x", "-0.25"]
    assert read_csv(path) == [row]
    assert read_sheet(path).rows == [(2, row)]


def test_other_tools_get_their_ids_as_they_are(tmp_path):
    write_csv(tmp_path / "a.csv", [{"slide_id": "=1"}], escape=False)
    assert (tmp_path / "a.csv").read_text() == "slide_id\n=1\n"
