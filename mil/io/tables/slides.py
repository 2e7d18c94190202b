"""The slide table: one row a slide, read as strings and checked before anything runs."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mil.config import DatasetConfig, dataset_path
from mil.errors import DatasetError, FormatError, some, unknown_name
from mil.io.tables.columns import MOST_SHOWN, likely_columns
from mil.io.tables.conventions import KNOWN, SPLITS
from mil.io.tables.csv_files import read_csv
from mil.io.tables.faults import Faults
from mil.io.tables.leakage import PatientSlide, patients_in_two_splits
from mil.io.tables.notes import look_alikes, notes_on
from mil.io.tables.slide_row import COLUMNS, LabelGrammar, Slide, slide_of_row
from mil.io.tables.spreadsheet import Sheet, examine_sheet
from mil.text import clean


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
        path: the table, as text of any separator and encoding, or a workbook.
        dataset: the dataset's yaml.

    Raises:
        DatasetError: a column is missing, or a row cannot be used; all faults are in one
            message, with file and line.
    """
    slides, _ = slides_of_sheet(
        _slide_sheet(path, dataset, faults := Faults(path)), dataset, faults
    )
    faults.check()
    return slides


def table_notes(name: str) -> list[str]:
    """Sentences about a dataset's slide table that a user should read, such as empty cells."""
    from mil.tasks import load_dataset

    path = dataset_path(name).with_suffix(".csv")
    dataset = load_dataset(name)
    faults = Faults(path)
    _, notes = slides_of_sheet(_slide_sheet(path, dataset, faults), dataset, faults)
    alike = [" and ".join(names) for names in look_alikes(dataset.classes)]
    if alike:
        notes.append(f"classes that look alike ({some(alike)}) are learnt as different ones")
    return notes


def _slide_sheet(path: Path, dataset: DatasetConfig, faults: Faults) -> Sheet:
    if not path.exists():
        raise DatasetError(
            f"{path}: no such slide table; it needs the columns slide, patient, label"
        )
    return examine_sheet(path, faults, list(dataset.columns.values()))


def slides_of_sheet(
    sheet: Sheet, dataset: DatasetConfig, faults: Faults
) -> tuple[list[Slide], list[str]]:
    """Slides of a table, and notes for the user.

    Args:
        sheet: the table.
        dataset: the dataset's yaml.
        faults: faults of the table, to which others are added; the caller checks them.

    Raises:
        DatasetError: a column is missing.
    """
    grammar = _label_grammar(dataset)
    column_names = _column_names(sheet, dataset, grammar, faults)
    # Cells of labels are the task's to judge: `-` or `none` may be a class.
    labels = {column_names[name] for name in ("label", *grammar.columns) if name in column_names}
    sheet = sheet.emptied(spared=labels)
    rows = []
    for line, row in sheet.rows:
        slide = slide_of_row(row, column_names, f"line {line}", grammar, dataset, faults)
        if slide is not None:
            rows.append((line, slide))
    if not sheet.rows:
        faults.add("the table has no rows")
    _check_unique(rows, faults)
    patients = column_names["patient"]
    if patients in sheet.header:
        check_patients(
            [(row[column_names["slide"]], row[patients]) for _, row in sheet.rows], patients, faults
        )
    return [slide for _, slide in rows], [*sheet.notes, *notes_on(sheet, column_names)]


def check_patients(slides: Sequence[tuple[str, str]], column: str, faults: Faults) -> None:
    """Refuse a column of patients of which some cells are empty.

    Each of these slides would count as a patient of its own, and a patient's slides
    come into training and test. Where all are empty, there is no such column.

    Args:
        slides: each slide and its patient.
        column: name of the column.
        faults: faults of the table, to which this is added.
    """
    without = [slide for slide, patient in slides if not patient]
    if without and len(without) < len(slides):
        faults.add(
            f"{len(without)} of {len(slides)} slides have no patient in column {column!r} "
            f"({some(without)}); fill in the cells, with the slide's own name where a patient has "
            "one slide only"
        )


def _column_names(
    sheet: Sheet, dataset: DatasetConfig, grammar: LabelGrammar, faults: Faults
) -> dict[str, str]:
    """The table's name of each of our columns."""
    header = set(sheet.header)
    label_columns = _label_columns(sheet.header, dataset, grammar)
    known = tuple(name for name in COLUMNS if name != "label") + label_columns
    if label_columns == ("label",):
        known = COLUMNS
    for column in dataset.columns:
        if column not in known:
            raise DatasetError(
                f"{sheet.path.with_suffix('.yaml')}: columns: "
                f"{unknown_name('column', column, known)}"
            )
    names = {column: clean(dataset.columns.get(column, column)) for column in known}
    missing = [
        name for name in ("slide", *label_columns, *dataset.columns) if names[name] not in header
    ]
    for column in dict.fromkeys(missing):
        likely = likely_columns(sheet, column) if column in KNOWN else []
        example = likely[0] if len(likely) == 1 else "ITS_NAME"
        there = some(sheet.header, MOST_SHOWN)
        faults.add(
            f"no column {names[column]!r}; the table has: {there}. Add it, or name "
            f"the column that holds it in the dataset's yaml: `columns: {{{column}: {example}}}`"
        )
    # Without them, no row can be read.
    if missing:
        faults.check()
    return names


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


def _check_unique(rows: Sequence[tuple[int, Slide]], faults: Faults) -> None:
    """Refuse two rows of one slide or of one file, and a patient in two splits."""
    # Without regard to case, since some file systems have none.
    line_of_id: dict[str, int] = {}
    for line, slide in rows:
        first = line_of_id.setdefault(slide.slide.lower(), line)
        if first != line:
            faults.add(
                f"slide {slide.slide!r} stands on line {first} and on line {line}; ids must differ"
            )
    slide_of_path: dict[str, str] = {}
    for _, slide in rows:
        # As a path, since ./a.svs is a.svs. Slides without one cannot collide.
        key = f"id {slide.slide}"
        if slide.path:
            # Several images of one file are several slides.
            path_as_written = PurePosixPath(slide.path.replace("\\", "/"))
            key = f"{path_as_written} {slide.scene.casefold()}"
        other = slide_of_path.setdefault(key, slide.slide)
        if other != slide.slide:
            faults.add(
                f"slides {other} and {slide.slide} have the same path {slide.path}; keep one"
            )
    splits = (PatientSlide(slide.patient, slide.slide, slide.split) for _, slide in rows)
    for fault in patients_in_two_splits(splits):
        faults.add(fault)


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
