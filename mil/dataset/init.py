"""Slides and a spreadsheet in, a dataset (one yaml, one csv) out."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mil.config import DatasetConfig, name_fault
from mil.dataset.options import InitOptions
from mil.dataset.report import InitReport
from mil.dataset.rows import row_of
from mil.dataset.yaml_text import yaml_text
from mil.errors import DatasetError, unknown_name
from mil.io.atomic import write_text
from mil.io.tables import read_dataset, write_csv
from mil.io.tables.class_order import class_order
from mil.io.tables.columns import MAX_CLASSES, choose_column, likely_columns, require_column
from mil.io.tables.faults import Faults
from mil.io.tables.label_options import OTHER_TASKS, LabelOptions, counted, with_labels
from mil.io.tables.labels import one_spelling, parsed_relabel, relabelled
from mil.io.tables.matching import columns_of_slides, match, without_header
from mil.io.tables.paths import check_no_braces, existing
from mil.io.tables.scan import SlideFile, find_annotations, find_slides
from mil.io.tables.slides import slides_of_sheet
from mil.io.tables.spreadsheet import Sheet, examine_sheet
from mil.text import clean

# Columns of the slide table that are left out where no slide has a value.
OPTIONAL = ("patient", "split", "mpp", "scene", "annotation")


def init(
    name: str,
    *,
    slides: Path,
    labels: Path,
    out: Path,
    slide_column: str | None = None,
    label_column: str | None = None,
    patient_column: str | None = None,
    label_options: LabelOptions | None = None,
    positive: str | None = None,
    relabel: Sequence[str] = (),
    force: bool = False,
) -> InitReport:
    """Make a dataset of a folder of slides and a spreadsheet of their labels.

    Args:
        name: Name of the new dataset.
        slides: Folder of the slides, with subfolders of any depth.
        labels: Spreadsheet: .csv, .tsv or .xlsx.
        out: Folder to write `NAME.yaml` and `NAME.csv` to.
        slide_column: Spreadsheet column of slide names; None: found by its name.
        label_column: Spreadsheet column of labels; None: found by its name.
        patient_column: Spreadsheet column of patients; None: found by its name.
        label_options: Task of the labels; None: classification.
        positive: Class of interest; None: the last class.
        relabel: Labels to write in place of others, as OLD=NEW.
        force: Overwrite a dataset of that name.

    Raises:
        DatasetError: Something is missing or ambiguous; nothing is written. All faults of
            the spreadsheet are in one message.
    """
    yaml = out / f"{name}.yaml"
    table = out / f"{name}.csv"
    _check_paths(name, yaml, table, labels, force=force)
    # Absolute, for the dataset may be used from another working directory.
    root = slides.resolve()
    options = InitOptions(
        slide_column=slide_column,
        label_column=label_column,
        patient_column=patient_column,
        positive=clean(positive) if positive else None,
        relabel=relabel,
        labels=label_options or LabelOptions(),
    )
    new_labels = parsed_relabel(relabel)
    faults = Faults(labels)
    sheet = examine_sheet(labels, faults, options.columns)
    slide_files = find_slides(root)
    sheet, columns = _columns(sheet, slide_files, options, faults)
    command = ["mil", "dataset", "init", name, "--slides", str(slides), "--labels", str(labels)]
    command += options.words()
    slide, label = columns["slide"], columns["label"]
    # Without them there is nothing more to be found out.
    if slide is None or label is None:
        faults.check(command)
        raise AssertionError("a missing column is a fault")
    sheet = relabelled(sheet, label, new_labels, faults)
    matches = match(sheet, slide_files, slide, label, faults)
    files = [file for file, _ in matches.pairs]
    annotations, foreign = find_annotations(root, files)
    rows = [row_of(file, cells, columns, annotations) for file, cells in matches.pairs]
    counts, notes = _classes(rows, label, options, faults)
    classes = list(counts) or options.labels.class_names
    config = DatasetConfig(task=options.labels.task, classes=classes)
    _check_annotations(rows, matches.lines, root, faults)
    notes += _check_rows(rows, matches.lines, sheet, columns["patient"], config, faults)
    faults.check(command)
    if not options.labels.is_classification:
        counts = counted([row["label"] for row in rows], options.labels)
    for row in rows:
        check_no_braces(f"slide {row['slide']}", root / row["path"])
    class_of_interest = options.positive or "".join(classes[-1:])
    text = yaml_text(name, labels, config.task, classes, class_of_interest, root)
    _write(yaml, text, rows, labels)
    return InitReport(
        yaml=yaml,
        csv=table,
        columns=columns,
        options=options.labels,
        num_slides=len(rows),
        counts=counts,
        positive=class_of_interest,
        num_patients=len({row["patient"] or row["slide"] for row in rows}),
        num_annotated=sum(bool(row.get("annotation")) for row in rows),
        # They stay in the table: every slide ends in a named state, and tiling gives
        # them theirs.
        unreadable=[str(file.path) for file in files if not file.readable],
        without_row=matches.without_row,
        without_slide=matches.without_slide,
        without_label=matches.without_label,
        foreign=foreign,
        notes=notes,
    )


def _columns(
    sheet: Sheet, slides: Sequence[SlideFile], options: InitOptions, faults: Faults
) -> tuple[Sheet, dict[str, str | None]]:
    """The table, and its columns of slide, label and patient; None: not there, nor to be guessed.

    Times and events of survival are one column of the table that is returned.
    """
    slide = choose_column(sheet, "slide", options.slide_column, Faults(sheet.path))
    headless = without_header(sheet, slides) if slide is None else ""
    if headless:
        faults.add(
            f"the first line is no header, for {headless!r} is a slide; write one above it, such "
            "as slide,label"
        )
        return sheet, {"slide": None, "label": None, "patient": None}
    # Cells that name files of the folder tell more than any name of a column.
    by_content = [] if slide else columns_of_slides(sheet, slides)[:1]
    slide = require_column(sheet, "slide", options.slide_column, faults, by_content)
    sheet, label = with_labels(sheet, options.label_column, options.labels, faults)
    columns = {
        "slide": slide,
        "label": label,
        "patient": choose_column(sheet, "patient", options.patient_column, faults),
    }
    likely = likely_columns(sheet, "patient")
    # A table may do without patients; but where the user is asked, of them too.
    if faults and columns["patient"] is None and len(likely) == 1:
        columns["patient"] = likely[0]
        faults.propose("--patient-column", likely[0])
    return sheet, columns


def _check_paths(name: str, yaml: Path, table: Path, labels: Path, *, force: bool) -> None:
    """Refuse names that a dataset cannot have, and to write over files that would be lost."""
    if fault := name_fault(name):
        raise DatasetError(f"dataset name {name!r}: {fault}")
    for file in (yaml, table):
        if file.exists() and not force:
            raise DatasetError(
                f"{file}: exists already; choose another name, or overwrite it with --force"
            )
    if labels.resolve() == table.resolve():
        raise DatasetError(
            f"{labels}: the new slide table would replace it; choose another name, or move it"
        )


def _check_annotations(
    rows: Sequence[dict[str, str]], lines: Sequence[int], root: Path, faults: Faults
) -> None:
    for line, row in zip(lines, rows, strict=True):
        # `evaluate` takes a missing file for a slide without annotation, and says
        # nothing.
        path = root / row["annotation"]
        if row["annotation"] and not existing(path).is_file():
            faults.add(
                f": no annotation {path}; write its path relative to the slides' folder, or "
                "absolute",
                f"line {line}: slide {row['slide']}",
            )


def _check_rows(
    rows: Sequence[dict[str, str]],
    lines: Sequence[int],
    sheet: Sheet,
    patient: str | None,
    config: DatasetConfig,
    faults: Faults,
) -> list[str]:
    """Add what a run would refuse in the rows, by lines of the spreadsheet; notes for the user."""
    if not rows:
        return []
    # Patients are called as in the spreadsheet, for the messages.
    name = patient if patient and patient not in rows[0] else "patient"
    renamed = [{name if key == "patient" else key: row[key] for key in row} for row in rows]
    table = replace(sheet, header=list(renamed[0]), rows=list(zip(lines, renamed, strict=True)))
    dataset = config.model_copy(update={"columns": {"patient": name}})
    _, notes = slides_of_sheet(table, dataset, faults)
    return notes


def _classes(
    rows: Sequence[dict[str, str]], column: str, options: InitOptions, faults: Faults
) -> tuple[dict[str, int], list[str]]:
    """Number of slides by class, and notes; the reference class is first, `positive` last.

    Each class gets one spelling in the rows. Tasks other than classification have none here.
    """
    positive = options.positive
    if not options.labels.is_classification:
        options.labels.positive_of(positive)
        return {}, []
    spelling, notes = one_spelling([row["label"] for row in rows], faults)
    for row in rows:
        row["label"] = spelling[row["label"]]
    counts = Counter(row["label"] for row in rows)
    examples = ", ".join(sorted(counts)[:5])
    # A label for each slide is an id or a measurement; of two slides it may be a class.
    one_each = len(counts) == len(rows) > 2
    if len(counts) > MAX_CLASSES or one_each:
        faults.add(
            f"column {column!r}: {len(counts)} labels for {len(rows)} slides ({examples}, ...); "
            f"{OTHER_TASKS}"
        )
    if positive is not None and positive not in counts:
        faults.add(f"column {column!r}: --positive: {unknown_name('label', positive, counts)}")
    return class_order(counts, positive), notes


def _write(yaml: Path, text: str, rows: Sequence[dict[str, str]], labels: Path) -> None:
    """Write both files, after a trial in a temporary folder: they must read back."""
    columns = [name for name in rows[0] if name not in OPTIONAL or any(row[name] for row in rows)]
    table = [{name: row[name] for name in columns} for row in rows]
    with TemporaryDirectory() as folder:
        trial = Path(folder) / yaml.name
        write_text(trial, text)
        write_csv(trial.with_suffix(".csv"), table, columns)
        try:
            read_dataset(str(trial))
        except DatasetError as error:
            # The fault is in the spreadsheet, whose line numbers differ from the trial's.
            trial_line = rf"{re.escape(str(trial.with_suffix('.csv')))}(: line \d+)?"
            # A function, since backslashes of a path would be read as groups in a
            # replacement string.
            message = re.sub(trial_line, lambda _: str(labels), str(error))
            raise DatasetError(message) from None
    # The yaml comes last, by which a dataset is found: it is never without its table.
    write_csv(yaml.with_suffix(".csv"), table, columns)
    write_text(yaml, text)
