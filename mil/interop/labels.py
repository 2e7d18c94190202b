"""Labels, patients and splits of imported slides, from any tool's tables.

Ids of slides and patients are texts: `007` stays `007`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.errors import ConfigError, DatasetError
from mil.interop.external import FeatureFile
from mil.interop.pixel_size import slides_of
from mil.io.tables.columns import choose_column, find_column, need_column, require_column
from mil.io.tables.faults import Faults
from mil.io.tables.label_options import LabelOptions, check_labels, with_labels
from mil.io.tables.labels import one_spelling, parsed_relabel, relabelled
from mil.io.tables.matching import Matches, columns_of_slides, match
from mil.io.tables.slides import check_patients
from mil.io.tables.splits import Splits, read_split_file, splits_of
from mil.io.tables.spreadsheet import Sheet, examine_sheet, read_sheet

# The command has too many options to be repeated in a message.
OPTIONS_ONLY = ("mil", "bags", "import", "…")


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """Names of a table's columns as the user states them; None: to be recognised."""

    slide: str | None = None
    label: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class LabelledSlide:
    """Row of a table: a slide, its patient and label, and all other columns as texts."""

    slide: str
    patient: str
    label: str
    other_columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelTable:
    """Slides that have a label, and what could not be matched, by name."""

    rows: list[LabelledSlide]
    without_label: list[str]
    without_bag: list[str]
    notes: list[str] = field(default_factory=list)


def read_labels(
    labels: Path,
    slide_table: Path | None,
    columns: ColumnNames,
    files: Sequence[FeatureFile],
    root: Path,
    relabel: Sequence[str] = (),
    options: LabelOptions | None = None,
) -> LabelTable:
    """Read the label and the patient of each slide.

    Args:
        labels: a table with a row a slide; or STAMP's of patients, with `slide_table`.
        slide_table: STAMP's table of slides and patients.
        columns: names of columns that cannot be recognised.
        files: the feature files.
        root: folder of the features; the table may name slides by their path in it.
        relabel: labels to write in place of others, as OLD=NEW.
        options: task of the labels; None: classification.

    Raises:
        DatasetError: a table cannot be read, or is ambiguous.
    """
    # The label column is sought in the table that the user names for labels.
    options = options or LabelOptions()
    times = (options.time_column, options.event_column)
    named = (columns.slide, columns.label, columns.patient, *times)
    slides = slides_of(files, root)
    faults = Faults(labels)
    sheet = examine_sheet(labels, faults, named)
    if slide_table is None and _is_patient_table(sheet, columns):
        raise DatasetError(
            f"{labels}: has one row per patient; give the table of their slides too: --slide-table "
            "FILE"
        )
    sheet, label = with_labels(sheet, columns.label, options, faults)
    if slide_table is not None and label is not None:
        sheet = _joined(read_sheet(slide_table, named), sheet, label, columns)
        # Faults of rows are now of the other table, those of labels of both.
        faults.check()
        faults = Faults(sheet.path)
    by_content = columns_of_slides(sheet, slides)[:1] if columns.slide is None else []
    slide = require_column(sheet, "slide", columns.slide, faults, by_content)
    patient = choose_column(sheet, "patient", columns.patient, faults)
    # Without them there is nothing more to be found out.
    if label is None or slide is None:
        faults.check(OPTIONS_ONLY)
        raise AssertionError("a missing column is a fault")
    sheet = relabelled(sheet, label, parsed_relabel(relabel), faults)
    matches = match(sheet, slides, slide, label, faults)
    spelling, notes = _spelling(matches, label, options, faults)
    if patient:
        pairs = [(matched.slide, cells[patient]) for matched, cells in matches.pairs]
        check_patients(pairs, patient, faults)
    faults.check(OPTIONS_ONLY)
    named_columns = ColumnNames(slide=slide, label=label, patient=patient)
    rows = [
        _labelled_slide(matched.slide, cells, named_columns, spelling)
        for matched, cells in matches.pairs
    ]
    # Matching speaks of paths; messages name slides.
    ids = {str(entry.path): entry.slide for entry in slides}
    unlabelled = [ids[path] for path in matches.without_row + matches.without_label]
    return LabelTable(rows, unlabelled, matches.without_slide, [*sheet.notes, *notes])


def _labelled_slide(
    name: str, cells: Mapping[str, str], columns: ColumnNames, spelling: Mapping[str, str]
) -> LabelledSlide:
    """The row of a slide.

    Args:
        name: id of the slide.
        cells: cells of its row, by column.
        columns: columns of slide, label and patient; None: the table has no such column.
        spelling: the spelling to use of each label.
    """
    own = (columns.slide, columns.label, columns.patient)
    others = {column: cell for column, cell in cells.items() if column not in own}
    # Without a patient, each slide is a patient of its own.
    patient = cells[columns.patient] if columns.patient else ""
    assert columns.label is not None
    return LabelledSlide(name, patient or name, spelling[cells[columns.label]], others)


def _spelling(
    matches: Matches, label: str, options: LabelOptions, faults: Faults
) -> tuple[dict[str, str], list[str]]:
    """Label as it is written, by the cell; notes for the user."""
    if options.is_classification:
        return one_spelling([cells[label] for _, cells in matches.pairs], faults)
    places = [
        f"line {line}: slide {slide.slide}"
        for (slide, _), line in zip(matches.pairs, matches.lines, strict=True)
    ]
    cells = [cells[label] for _, cells in matches.pairs]
    return check_labels(zip(places, cells, strict=True), options, faults), []


def _is_patient_table(sheet: Sheet, columns: ColumnNames) -> bool:
    has_slides = find_column(sheet, "slide", columns.slide) is not None
    return not has_slides and bool(find_column(sheet, "patient", columns.patient))


def _joined(slides: Sheet, patients: Sheet, label: str, columns: ColumnNames) -> Sheet:
    """The table of slides with the label and all other columns of each slide's patient."""
    patient_of_slide = need_column(slides, "patient", columns.patient)
    patient_of_label = need_column(patients, "patient", columns.patient)
    patient_rows: dict[str, dict[str, str]] = {}
    for line, cells in patients.rows:
        patient = cells[patient_of_label]
        # STAMP's table may list a patient twice, with one label.
        if patient_rows.setdefault(patient, cells)[label] != cells[label]:
            raise DatasetError(
                f"{patients.path}: line {line}: patient {patient} has two labels; keep one"
            )
    columns_of_patient = [name for name in patients.header if name != patient_of_label]
    nothing = dict.fromkeys(columns_of_patient, "")
    rows = []
    for line, cells in slides.rows:
        of_patient = {**nothing, **patient_rows.get(cells[patient_of_slide], nothing)}
        of_patient.pop(patient_of_label, None)
        # The table of slides counts where both have a column, but for the label.
        rows.append((line, {**of_patient, **cells, label: of_patient[label]}))
    header = [*dict.fromkeys([*slides.header, *columns_of_patient])]
    return Sheet(slides.path, header, rows)


def labels_in_files(labels: Mapping[str, str]) -> LabelTable:
    """Table of the labels that feature files hold themselves.

    Args:
        labels: label of each slide; empty where the file has none.

    Returns:
        The table, with each slide a patient of its own.
    """
    rows = [LabelledSlide(slide, slide, label) for slide, label in labels.items() if label]
    unlabelled = [slide for slide, label in labels.items() if not label]
    return LabelTable(rows, unlabelled, [])


def read_splits(path: Path, rows: Sequence[LabelledSlide], fold: int | None) -> Splits:
    """Read the split of each slide.

    Args:
        path: a file of splits; see `mil.io.tables.splits`.
        rows: the slides, with their patients.
        fold: number of the fold, where the file has several; counted as in the file.

    Raises:
        DatasetError: the file cannot be read, or a slide or a patient is in two splits.
        ConfigError: the file has several folds and `fold` names none of them.
    """
    file = read_split_file(path)
    # A file of one fold needs no number, whatever it counts from.
    if fold is None and len(file.folds) == 1:
        fold = next(iter(file.folds))
    if fold is None or fold not in file.folds:
        raise ConfigError(
            f"{path}: has the folds {', '.join(map(str, file.folds))}; choose one with --fold"
        )
    return splits_of(file, fold, rows)
