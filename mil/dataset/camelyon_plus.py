"""CAMELYON+: corrected labels of CAMELYON16 and 17, from their published table to a dataset.

Ling et al., Scientific Data 2025, doi:10.1038/s41597-025-05586-5. The table is in the
authors' data record, doi:10.57760/sciencedb.16442; it has a row a slide with the columns
`slide` and `label`, and labels in four classes.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from mil.config import name_fault
from mil.errors import DatasetError, some
from mil.io.atomic import write_text
from mil.io.tables import id_of, read_dataset, write_csv
from mil.io.tables.columns import need_column
from mil.io.tables.faults import Faults
from mil.io.tables.spreadsheet import Sheet, read_sheet

Part = Literal["camelyon16", "camelyon17", "both"]
# Words of the table, in small letters, by our class; 0 and 1 stand for two classes.
WORDS = {
    "negative": ("negative", "normal", "0"),
    "itc": ("itc", "itcs", "isolated tumor cells", "isolated tumour cells"),
    "micro": ("micro", "micro-metastasis", "micrometastasis"),
    "macro": ("macro", "macro-metastasis", "macrometastasis"),
    "tumour": ("positive", "tumor", "tumour", "1"),
}
FOUR = ("negative", "itc", "micro", "macro")
TWO = ("normal", "tumour")
OF_CAMELYON16 = re.compile(r"(?:normal|tumor|test)_\d{3}")
OF_CAMELYON17 = re.compile(r"(patient_(\d{3}))_node_\d")
# The challenge's own division: its last hundred patients are the test set.
FIRST_TEST_PATIENT = 100
MOST_SHOWN = 10
YAML = """\
# Written by `mil dataset camelyon-plus`.
# The slide table is the csv of the same name beside this file.
title: {title}
classes: [{classes}]
positive: {positive}
slide_paths:
  - images/{{slide}}.tif
  - "{{slide}}.tif"
  - training/normal/{{slide}}.tif
  - training/tumor/{{slide}}.tif
  - testing/images/{{slide}}.tif
  - CAMELYON16/images/{{slide}}.tif
  - CAMELYON17/images/{{slide}}.tif
get: >-
  The slides are those of CAMELYON16 and 17, in AWS's open data bucket camelyon-dataset, without
  an account, below CAMELYON16/images/ and CAMELYON17/images/; then
  `--config dataset={name} slides_dir=DIR`.
licence: CC0-1.0 (slides); see the data record for that of the labels
notes: >-
  Labels corrected by Ling et al., Scientific Data 2025, doi:10.1038/s41597-025-05586-5 (table:
  doi:10.57760/sciencedb.16442). Splits are those of the two challenges, since the authors' own is
  not published; slides that they left out are not here. No annotations: the outlines of
  CAMELYON16 are those before the correction.
"""


class PlusReport(NamedTuple):
    """Slides of the written dataset by class, and the lines to print.

    Attributes:
        counts: number of slides by class.
        notes: what the table lacks or has besides.
    """

    counts: dict[str, int]
    notes: list[str]


class _Row(NamedTuple):
    slide: str
    patient: str
    split: str
    corrected_class: str


def make(
    table: Path, name: str, folder: Path, *, part: Part, classes: int, force: bool
) -> PlusReport:
    """Write the dataset.

    Args:
        table: The published table, as .csv, .tsv or .xlsx.
        name: Name of the dataset.
        folder: Folder for its two files.
        part: Slides to take: those of CAMELYON16, of 17, or both.
        classes: 2 (normal, tumour; isolated tumour cells are tumour) or 4.
        force: Overwrite an existing dataset.

    Raises:
        DatasetError: The table is another one, or the dataset exists already.
    """
    if fault := name_fault(name):
        raise DatasetError(f"dataset name {name!r}: {fault}")
    if str(table).startswith(("http:/", "https:/")):
        # A path keeps one slash of two.
        url = str(table).replace(":/", "://", 1)
        raise DatasetError(
            f"{url}: is an address; download it first: mil fetch --url {quote(url)} --out table"
            f"{PurePosixPath(urlsplit(url).path).suffix or '.xlsx'}"
        )
    for file in (folder / f"{name}.yaml", folder / f"{name}.csv"):
        if file.exists() and not force:
            raise DatasetError(f"{file}: is there already; give another --name, or --force")
    splits = {row.slide: row.split for row in read_dataset("camelyon16")[1]}
    rows = _read(table, splits)
    chosen = [row for row in rows if part == "both" or (row.slide in splits) == _is_16(part)]
    if not chosen:
        raise DatasetError(f"{table}: has no slide of {part}; choose another --part")
    labels = FOUR if classes == 4 else TWO
    cells = [_cells(row, classes, table) for row in chosen]
    counts = Counter(cell["label"] for cell in cells)
    write_csv(folder / f"{name}.csv", cells)
    text = YAML.format(
        name=name,
        title="CAMELYON+" if part == "both" else f"CAMELYON+ ({part})",
        classes=", ".join(labels),
        positive=labels[-1],
    )
    # The yaml comes last: only with it is there a dataset.
    write_text(folder / f"{name}.yaml", text)
    return PlusReport({label: counts[label] for label in labels}, _notes(chosen, splits, part))


def _is_16(part: Part) -> bool:
    return part == "camelyon16"


def _read(table: Path, splits: Mapping[str, str]) -> list[_Row]:
    sheet = read_sheet(table)
    slide_column = _column(sheet, "slide")
    label_column = _column(sheet, "label")
    by_word = {word: name for name, words in WORDS.items() for word in words}
    faults = Faults(table)
    rows: dict[str, _Row] = {}
    for line, cells in sheet.rows:
        place = f"line {line}: slide {cells[slide_column]}"
        slide = id_of(PurePosixPath(cells[slide_column].replace("\\", "/"))).lower()
        label = by_word.get(cells[label_column].strip().lower().replace("_", "-"))
        patient = _patient_and_split(slide, splits)
        if patient is None:
            faults.add(" is no slide of CAMELYON16 or 17", place)
        elif label is None:
            words = ", ".join(FOUR)
            faults.add(f": label {cells[label_column]!r} is none of {words}", place)
        elif slide in rows:
            faults.add(" is there twice", place)
        else:
            rows[slide] = _Row(slide, *patient, label)
    faults.check()
    return list(rows.values())


def _column(sheet: Sheet, name: str) -> str:
    try:
        return need_column(sheet, name, None)
    except DatasetError:
        # That of other commands names options which this one lacks.
        raise DatasetError(
            f"{sheet.path}: no column {name!r}; give that of the {name}s this name, as in the "
            "published table"
        ) from None


def _patient_and_split(slide: str, splits: Mapping[str, str]) -> tuple[str, str] | None:
    """Patient and split of a slide; None for one that neither challenge has."""
    if OF_CAMELYON16.fullmatch(slide) and slide in splits:
        return slide, splits[slide]
    match = OF_CAMELYON17.fullmatch(slide)
    if match is None:
        return None
    return match[1], "test" if int(match[2]) >= FIRST_TEST_PATIENT else "train"


def _cells(row: _Row, classes: int, table: Path) -> dict[str, str]:
    label = row.corrected_class
    if classes == 2:
        label = "normal" if label == "negative" else "tumour"
    elif label == "tumour":
        raise DatasetError(f"{table}: tells tumour from normal alone; give --classes 2")
    cells = {"slide": row.slide, "patient": row.patient, "label": label, "split": row.split}
    return {**cells, "corrected": row.corrected_class}


def _notes(rows: Sequence[_Row], splits: Mapping[str, str], part: Part) -> list[str]:
    present = {row.slide for row in rows}
    notes = []
    left_out = [slide for slide in splits if slide not in present]
    if part != "camelyon17" and left_out:
        shown = some(left_out, MOST_SHOWN)
        notes.append(f"left out by CAMELYON+: {len(left_out)} slides of CAMELYON16: {shown}")
    other = [row.slide for row in rows if _contradicts(row)]
    if other:
        notes.append(
            f"corrected: {len(other)} slides are not what their name says: "
            f"{some(other, MOST_SHOWN)}"
        )
    return notes


def _contradicts(row: _Row) -> bool:
    is_normal = row.corrected_class == "negative"
    return row.slide.startswith("tumor_" if is_normal else "normal_")
