"""Slides and a spreadsheet in, a dataset (one yaml, one csv) out."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mil.config import name_fault
from mil.dataset.report import InitReport
from mil.errors import DatasetError, unknown_name
from mil.io.atomic import write_text
from mil.io.tables import read_dataset, write_csv
from mil.io.tables.class_order import class_order
from mil.io.tables.conventions import SPLIT_WORDS
from mil.io.tables.matching import match
from mil.io.tables.paths import check_no_braces
from mil.io.tables.scan import SlideFile, find_annotations, find_slides
from mil.io.tables.spreadsheet import (
    MAX_CLASSES,
    WHAT_IT_LOOKS_LIKE,
    find_column,
    need_column,
    read_sheet,
)

# Columns of the slide table that are left out where no slide has a value.
OPTIONAL = ("patient", "split", "mpp", "annotation")
# Columns of the spreadsheet that are columns of the slide table, if their name says so.
SHARED = ("split", "mpp", "annotation", "path")

YAML = """\
# Made by `mil dataset init {name}` from {sheet}.
# The slide table is {name}.csv beside this file; both may be edited by hand.
#
# title: title of the dataset in the report
# task: kind of label: classification (default), multilabel, ordinal, regression,
#   survival_discrete or survival_cox
# classes: the labels, in the order of the head's outputs; empty where labels are numbers
# positive: class of interest for sensitivity and heatmaps
# intervals, ends: number of time intervals of survival_discrete, or their ends
# slides_dir: folder of the slides; `--config slides_dir=DIR` overrides it
# columns: our column name: its name in the csv, where they differ
# slide_paths: patterns of the path of a slide whose row has none, such as "{{slide}}.svs"
# annotation_paths: patterns of the path of an annotation whose row has none
# tissue_paths, region_paths: patterns of your own masks; default: tissue/ and region/ in the
#   slides' folder
# geojson_frame: origin of GeoJSON: "scanned" part of the slide, as in QuPath, or the whole "slide"
# size, get: size of the slides and how to get them, for the message that they are missing
# licence, notes: for later users
title: {title}
classes: {classes}
positive: {positive}
slides_dir: {slides_dir}
columns: {{}}
slide_paths: ["{{slide}}"]
annotation_paths: []
size: ""
get: ""
licence: ""
notes: ""
"""


def init(
    name: str,
    *,
    slides: Path,
    labels: Path | None,
    out: Path,
    slide_column: str | None = None,
    label_column: str | None = None,
    patient_column: str | None = None,
    positive: str | None = None,
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
        positive: Class of interest; None: the last class.
        force: Overwrite a dataset of that name.

    Raises:
        DatasetError: Something is missing or ambiguous; nothing is written.
    """
    yaml = out / f"{name}.yaml"
    table = out / f"{name}.csv"
    labels = _check_paths(name, yaml, table, labels, force=force)
    # Absolute, for the dataset may be used from another working directory.
    root = slides.resolve()
    sheet = read_sheet(labels)
    columns = {
        "slide": need_column(sheet, "slide", slide_column),
        "label": need_column(sheet, "label", label_column),
        "patient": find_column(sheet, "patient", patient_column),
    }
    label = str(columns["label"])
    matches = match(sheet, find_slides(root), str(columns["slide"]), label)
    files = [file for file, _ in matches.pairs]
    annotations, foreign = find_annotations(root, files)
    rows = [_row(file, cells, columns, annotations) for file, cells in matches.pairs]
    classes = _classes(rows, f"{labels}: column {label!r}", positive)
    _check_annotations(rows, root, labels)
    for row in rows:
        check_no_braces(f"slide {row['slide']}", root / row["path"])
    class_of_interest = positive or list(classes)[-1]
    text = _yaml_text(name, labels, list(classes), class_of_interest, root)
    _write(yaml, text, rows, labels)
    return InitReport(
        yaml=yaml,
        csv=table,
        columns=columns,
        classes=classes,
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
    )


def _check_paths(name: str, yaml: Path, table: Path, labels: Path | None, *, force: bool) -> Path:
    """The spreadsheet, if the dataset may have this name and nothing would be lost."""
    if fault := name_fault(name):
        raise DatasetError(f"dataset name {name!r}: {fault}")
    for file in (yaml, table):
        if file.exists() and not force:
            raise DatasetError(
                f"{file}: exists already; choose another name, or overwrite it with --force"
            )
    if labels is None:
        raise DatasetError(f"no labels for the slides; give --labels FILE: {WHAT_IT_LOOKS_LIKE}")
    if labels.resolve() == table.resolve():
        raise DatasetError(
            f"{labels}: the new slide table would replace it; choose another name, or move it"
        )
    return labels


def _yaml_text(name: str, labels: Path, classes: list[str], positive: str, slides_dir: Path) -> str:
    values = {
        "title": name,
        "classes": classes,
        "positive": positive,
        "slides_dir": str(slides_dir),
    }
    # JSON is YAML, and its quotes keep `0` and `no` strings.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return YAML.format(name=name, sheet=labels.name, **quoted)


def _row(
    file: SlideFile,
    cells: dict[str, str],
    columns: dict[str, str | None],
    annotations: dict[str, str],
) -> dict[str, str]:
    """One row of the slide table; further columns of the spreadsheet are kept."""
    further = {key: value for key, value in cells.items() if key not in columns.values()}
    shared = {key.lower(): further.pop(key) for key in list(further) if key.lower() in SHARED}
    split = shared.get("split", "").lower()
    row = {
        "slide": file.slide,
        # Empty: the slide then counts as a patient of its own.
        "patient": cells[columns["patient"]] if columns["patient"] else "",
        "path": file.path.as_posix(),
        "label": cells[columns["label"] or ""],
        "split": SPLIT_WORDS.get(split, split),
        # Some spreadsheets write decimals with a comma.
        "mpp": shared.get("mpp", "").replace(",", "."),
        # The spreadsheet's cell overrides an annotation beside the slide.
        "annotation": shared.get("annotation", "") or annotations.get(file.slide, ""),
    }
    for key, value in further.items():
        # A column that has our name but was not chosen for it gets another name.
        is_ours = key in ("slide", "label", "patient")
        row[f"sheet_{key}" if is_ours else key] = value
    return row


def _check_annotations(rows: Sequence[dict[str, str]], root: Path, labels: Path) -> None:
    for row in rows:
        # `evaluate` takes a missing file for a slide without annotation, and says
        # nothing.
        path = root / row["annotation"]
        if row["annotation"] and not path.is_file():
            raise DatasetError(
                f"{labels}: slide {row['slide']}: no annotation {path}; write its path relative "
                "to the slides' folder, or absolute"
            )


def _classes(rows: Sequence[dict[str, str]], where: str, positive: str | None) -> dict[str, int]:
    """Number of slides by class; the reference class is first, `positive` last."""
    counts = Counter(row["label"] for row in rows)
    examples = ", ".join(sorted(counts)[:5])
    # A label for each slide is an id or a measurement; of two slides it may be a class.
    one_each = len(counts) == len(rows) > 2
    if len(counts) > MAX_CLASSES or one_each:
        raise DatasetError(
            f"{where}: {len(counts)} labels for {len(rows)} slides ({examples}, ...); is it the "
            "wrong column? Say which with --label-column NAME"
        )
    if len({label.casefold() for label in counts}) < len(counts):
        raise DatasetError(
            f"{where}: labels that differ in case only ({examples}); write them the same"
        )
    if positive is not None and positive not in counts:
        raise DatasetError(f"{where}: --positive: {unknown_name('label', positive, counts)}")
    return class_order(counts, positive)


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
