"""The slide table: one row a slide, read as strings and checked before anything runs."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mil.config import DatasetConfig, dataset_path
from mil.errors import DatasetError, FormatError, unknown_name
from mil.io.tables.conventions import NO_LABEL, SPLITS
from mil.io.tables.csv_files import read_csv
from mil.io.tables.formulas import unescaped
from mil.io.tables.ids import id_fault, valid_id
from mil.io.tables.leakage import PatientSlide, check_patients_in_one_split

COLUMNS = (
    "slide",
    "patient",
    "path",
    "url",
    "label",
    "split",
    "mpp",
    "annotation",
    "annotation_url",
    "tissue",
    "region",
    "checksum",
)
# Columns of paths below the slides' folder.
IN_FOLDER = ("path", "annotation", "tissue", "region")
# Columns of URLs, and the column of the path that each is saved to.
SAVED_TO = {"url": "path", "annotation_url": "annotation"}
# Micrometres per pixel; a larger number is another unit.
LARGEST_MPP = 1000


class LabelGrammar(NamedTuple):
    """What a task says about labels; its functions raise ValueError."""

    columns: tuple[str, ...]  # may stand for `label`; empty: none
    join: Callable[..., str]  # cells of these columns -> label
    check: Callable[[str], str]  # label as written -> canonical label


@dataclass(frozen=True)
class Slide:
    """One row of the slide table; an empty field: not given.

    Attributes:
        slide: the slide's id.
        patient: the patient's id; the slide's, where the table names none.
        label: label in the grammar of the dataset's task.
        path: file below the slides' folder.
        url: address that the file can be fetched from.
        split: train, val or test.
        mpp: micrometres per pixel of level 0.
        annotation: file of annotated regions below the slides' folder.
        annotation_url: address that the annotation can be fetched from.
        tissue: the user's tissue mask below the slides' folder.
        region: the user's mask of the region that tiles may come from.
        checksum: checksum of the slide's file.
        subgroups: values of all other columns, by column.
    """

    slide: str
    patient: str
    label: str
    path: str = ""
    url: str = ""
    split: str = ""
    mpp: float | None = None
    annotation: str = ""
    annotation_url: str = ""
    tissue: str = ""
    region: str = ""
    checksum: str = ""
    subgroups: dict[str, str] = field(default_factory=dict)


def read_dataset(name: str) -> tuple[DatasetConfig, list[Slide]]:
    """A dataset's yaml and its slide table, by name or by the path of the yaml."""
    path = dataset_path(name)
    # Tasks import numpy, which the many who only want `Slide` or `write_csv` can do without.
    from mil.tasks import load_dataset

    dataset = load_dataset(name)
    return dataset, read_slides(path.with_suffix(".csv"), dataset)


def read_slides(path: Path, dataset: DatasetConfig) -> list[Slide]:
    """Read and check a slide table.

    Args:
        path: the table.
        dataset: the dataset's yaml.

    Raises:
        DatasetError: a column is missing, or a row cannot be used; file and line are
            named.
    """
    if not path.exists():
        raise DatasetError(
            f"{path}: no such slide table; it needs the columns slide, patient, label"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # The byte order mark that spreadsheets write is no part of the first column.
            rows = list(_rows(csv.DictReader(file), path, dataset))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: not a csv in UTF-8 ({error}); save it as 'CSV UTF-8'"
        ) from None
    if not rows:
        raise DatasetError(f"{path}: the table has no rows")
    # Faults of one row come first: they explain faults between rows.
    _check_unique(rows, path)
    return [slide for _, slide in rows]


def _rows(
    reader: "csv.DictReader[str]", path: Path, dataset: DatasetConfig
) -> Iterator[tuple[int, Slide]]:
    """Line number and slide of each row that is not empty."""
    header = [unescaped(name.strip()) for name in reader.fieldnames or []]
    reader.fieldnames = header
    grammar = _label_grammar(dataset)
    column_names = _column_names(header, path, dataset, grammar)
    for raw in reader:
        where = f"{path}: line {reader.line_num}"
        # Cells beyond the header come under the key None: a comma without quotes has
        # moved what follows it.
        if any(cell.strip() for cell in raw.pop(None, [])):
            raise DatasetError(
                f"{where} has more cells than the header; put text with a comma in quotes"
            )
        row = {key: unescaped((value or "").strip()) for key, value in raw.items() if key}
        if any(row.values()):
            yield reader.line_num, _slide(row, column_names, where, grammar)


def _column_names(
    header: Sequence[str], path: Path, dataset: DatasetConfig, grammar: LabelGrammar
) -> dict[str, str]:
    """The table's name of each of our columns."""
    check_no_duplicates(header, path)
    label_columns = _label_columns(header, dataset, grammar)
    known = tuple(name for name in COLUMNS if name != "label") + label_columns
    if label_columns == ("label",):
        known = COLUMNS
    for column in dataset.columns:
        if column not in known:
            raise DatasetError(
                f"{path.with_suffix('.yaml')}: columns: {unknown_name('column', column, known)}"
            )
    for column in ("slide", *label_columns, *dataset.columns):
        name = dataset.columns.get(column, column)
        if name not in header:
            raise DatasetError(
                f"{path}: no column {name!r}; the table has: {', '.join(header)}. Add it, or name "
                f"the column that holds it in the dataset's yaml: `columns: {{{column}: ITS_NAME}}`"
            )
    return {column: dataset.columns.get(column, column) for column in known}


def _label_columns(
    header: Sequence[str], dataset: DatasetConfig, grammar: LabelGrammar
) -> tuple[str, ...]:
    """Columns that hold the label: `label`, or those that stand for it, such as time and event."""
    columns = grammar.columns
    if columns and (columns[0] in dataset.columns or "label" not in [*dataset.columns, *header]):
        return columns
    return ("label",)


def _label_grammar(dataset: DatasetConfig) -> LabelGrammar:
    """Grammar of the labels of a dataset's task."""
    from mil.tasks import task_of

    task = task_of(dataset)
    return LabelGrammar(task.label_columns, task.joined_label, task.checked_label)


def check_no_duplicates(header: Sequence[str], path: Path) -> None:
    """Refuse a table with two columns of one name.

    Args:
        header: names of the columns; columns without a name are passed over.
        path: the table, for the message.

    Raises:
        DatasetError: a name stands there twice.
    """
    for name in header:
        if name and header.count(name) > 1:
            raise DatasetError(f"{path}: the column {name!r} is there twice; rename or remove one")


def _slide(
    row: dict[str, str], column_names: dict[str, str], where: str, grammar: LabelGrammar
) -> Slide:
    values = {column: row.get(name, "") for column, name in column_names.items()}
    slide = values["slide"]
    if not valid_id(slide):
        raise DatasetError(f"{where}: slide id {slide!r} {id_fault(slide)}")
    where = f"{where}: slide {slide}"
    values["label"] = _label(values, where, grammar)
    # Spreadsheets capitalise the first letter of a cell.
    values["split"] = values["split"].lower()
    if values["split"] and values["split"] not in SPLITS:
        raise DatasetError(f"{where}: {unknown_name('split', values['split'], SPLITS)}")
    _check_paths(values, where)
    mpp = _mpp(values.pop("mpp"), where)
    patient = values.pop("patient") or slide
    subgroups = {name: value for name, value in row.items() if name not in column_names.values()}
    return Slide(**values, patient=patient, mpp=mpp, subgroups=subgroups)


def _label(values: dict[str, str], where: str, grammar: LabelGrammar) -> str:
    """The label, in the grammar of the dataset's task."""
    label = values.get("label", "")
    cells = [values.pop(column) for column in grammar.columns if column in values]
    try:
        if cells:
            label = grammar.join(*cells)
        return grammar.check(label)
    except ValueError as error:
        fault = f": label {label!r}"
        if label.lower() in NO_LABEL:
            fault = f" has no label ({label!r})" if label else " has no label"
        raise DatasetError(f"{where}{fault}; {error}") from None


def _check_paths(values: dict[str, str], where: str) -> None:
    """Refuse paths that leave the slides' folder, and URLs without a path in it."""
    for column in IN_FOLDER:
        if ".." in PurePosixPath(values[column].replace("\\", "/")).parts:
            raise DatasetError(
                f"{where}: {column} {values[column]!r} leaves the slides' folder by '..'"
            )
    for url, column in SAVED_TO.items():
        path = values[column]
        if values[url] and (not path or PurePosixPath(path).is_absolute()):
            raise DatasetError(
                f"{where}: {url} needs a {column} inside the slides' folder to save to"
            )


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        # Out of range, as an impossible number is.
        mpp = -1.0
    if not 0 < mpp < LARGEST_MPP:
        raise DatasetError(
            f"{where}: mpp {text!r} is not a number of micrometres per pixel, such as 0.25"
        )
    return mpp


def _check_unique(rows: Sequence[tuple[int, Slide]], path: Path) -> None:
    """Refuse two rows of one slide or of one file, and a patient in two splits."""
    # Without regard to case, since some file systems have none.
    line_of_id: dict[str, int] = {}
    for line, slide in rows:
        first = line_of_id.setdefault(slide.slide.lower(), line)
        if first != line:
            raise DatasetError(
                f"{path}: slide {slide.slide!r} stands on line {first} and on line {line}; ids "
                "must differ"
            )
    slide_of_path: dict[str, str] = {}
    for _, slide in rows:
        # As a path, since ./a.svs is a.svs. Slides without one cannot collide.
        key = f"id {slide.slide}"
        if slide.path:
            key = str(PurePosixPath(slide.path.replace("\\", "/")))
        other = slide_of_path.setdefault(key, slide.slide)
        if other != slide.slide:
            raise DatasetError(
                f"{path}: slides {other} and {slide.slide} have the same path {slide.path}; keep "
                "one"
            )
    splits = (PatientSlide(slide.patient, slide.slide, slide.split) for _, slide in rows)
    check_patients_in_one_split(splits, str(path))


def read_folds(path: Path) -> list[dict[str, str]]:
    """Rows of a folds file; `fold` is a whole number as text, `split` one of the three.

    Raises:
        FormatError: the file is another table, or an empty one.
    """
    rows = read_csv(path)
    if not rows:
        raise FormatError(f"{path}: has no row for a slide; run `mil split` again")
    for line, row in enumerate(rows, 2):
        has_fold = (row.get("fold") or "").isdecimal()
        if not has_fold or not row.get("slide") or row.get("split") not in SPLITS:
            raise FormatError(
                f"{path}: line {line}: not of a folds file, which has the columns fold, slide, "
                "split"
            )
    return rows
