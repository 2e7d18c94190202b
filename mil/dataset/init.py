"""Slides and a spreadsheet in, a dataset (one yaml, one csv) out."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mil.config import NAME
from mil.dataset.report import InitReport
from mil.errors import DatasetError, unknown_name
from mil.io.atomic import write_text
from mil.io.tables import read_dataset, write_csv
from mil.io.tables.class_order import class_order
from mil.io.tables.conventions import SPLIT_WORDS
from mil.io.tables.matching import match
from mil.io.tables.scan import Found, find_annotations, find_slides
from mil.io.tables.spreadsheet import (
    MAX_CLASSES,
    WHAT_IT_LOOKS_LIKE,
    find_column,
    need_column,
    read_sheet,
)

OPTIONAL = ("patient", "split", "mpp", "annotation")  # columns left out when no slide has one

YAML = """\
# Made by `mil dataset init {name}` from {sheet}.
# The slide table is {name}.csv beside this file; both may be edited by hand.
#
# title: what the report calls the dataset
# task: what a label is: classification (default), multilabel, ordinal, regression, survival_discrete or survival_cox
# classes: the labels, in the order of the head's outputs; empty where they are numbers
# positive: the class that sensitivity and heatmaps speak of
# intervals, ends: of survival_discrete: how many intervals of time, or when they end
# slides_dir: where the slides are; `--config slides_dir=DIR` goes before it
# columns: our column name: its name in the csv, where they differ
# slide_paths: where to look for a slide whose row has no path, such as "{{slide}}.svs"
# annotation_paths: the same for a slide whose row has no annotation
# tissue_paths, region_paths: the same for your own masks; default: tissue/ and region/ in the slides' folder
# geojson_frame: what your GeoJSON counts from: "scanned" part of the slide, as QuPath does, or the whole "slide"
# size, get: for the message that slides are missing: how big they are, and how to get them
# licence, notes: for those who come later
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
        name: of the dataset.
        slides: the folder; slides may lie at any depth.
        labels: the spreadsheet: .csv, .tsv or .xlsx.
        out: folder of `NAME.yaml` and `NAME.csv`.
        slide_column: the spreadsheet's column of slide names; None: found by its name,
            like the next two.
        label_column: its column of labels.
        patient_column: its column of patients.
        positive: the class of interest; None: the last.
        force: overwrite a dataset of that name.

    Raises:
        DatasetError: something is missing or could mean two things; nothing is written.
    """
    if not re.fullmatch(NAME, name):
        raise DatasetError(
            f"dataset name {name!r}: use letters, digits, dots, dashes and underscores only"
        )
    yaml = out / f"{name}.yaml"
    table = out / f"{name}.csv"
    for file in (yaml, table):
        if file.exists() and not force:
            raise DatasetError(
                f"{file}: is there already; choose another name, or overwrite it with --force"
            )
    if labels is None:
        raise DatasetError(f"no labels for the slides; give --labels FILE: {WHAT_IT_LOOKS_LIKE}")
    if labels.resolve() == table.resolve():
        raise DatasetError(
            f"{labels}: the new slide table would replace it; choose another name, or move it"
        )
    root = slides.resolve()
    sheet = read_sheet(labels)
    columns = {
        "slide": need_column(sheet, "slide", slide_column),
        "label": need_column(sheet, "label", label_column),
        "patient": find_column(sheet, "patient", patient_column),
    }
    slide = str(columns["slide"])
    label = str(columns["label"])
    matches = match(sheet, find_slides(root), slide, label)
    annotations, foreign = find_annotations(root, [found for found, _ in matches.pairs])
    rows = [_row(found, cells, columns, annotations) for found, cells in matches.pairs]
    classes = _classes(rows, f"{labels}: column {label!r}", positive)
    _check_annotations(rows, root, labels)
    chosen = positive or list(classes)[-1]
    values = {"title": name, "classes": list(classes), "positive": chosen, "slides_dir": str(root)}
    # JSON is YAML, and its quotes keep `0` and `no` strings.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    _write(yaml, YAML.format(name=name, sheet=labels.name, **quoted), rows, labels)
    return InitReport(
        yaml=yaml,
        csv=table,
        columns=columns,
        classes=classes,
        positive=chosen,
        num_patients=len({row["patient"] or row["slide"] for row in rows}),
        num_annotated=sum(bool(row.get("annotation")) for row in rows),
        unreadable=[str(found.path) for found, _ in matches.pairs if not found.readable],
        without_row=matches.without_row,
        without_slide=matches.without_slide,
        without_label=matches.without_label,
        foreign=foreign,
    )


def _row(
    found: Found, cells: dict[str, str], columns: dict[str, str | None], annotations: dict[str, str]
) -> dict[str, str]:
    """One row of the slide table; the spreadsheet's other columns are kept."""
    others = {key: value for key, value in cells.items() if key not in columns.values()}
    ours = {
        key.lower(): others.pop(key)
        for key in list(others)
        if key.lower() in ("split", "mpp", "annotation", "path")
    }
    split = ours.get("split", "").lower()
    return {
        "slide": found.slide,
        "patient": cells[columns["patient"] or ""] if columns["patient"] else "",
        "path": found.path.as_posix(),
        "label": cells[columns["label"] or ""],
        "split": SPLIT_WORDS.get(split, split),
        "mpp": ours.get("mpp", "").replace(",", "."),
        "annotation": ours.get("annotation", "") or annotations.get(found.slide, ""),
        # A column that has our name but is not the one meant goes under another name.
        **{
            f"sheet_{key}" if key in ("slide", "label", "patient") else key: value
            for key, value in others.items()
        },
    }


def _check_annotations(rows: Sequence[dict[str, str]], root: Path, labels: Path) -> None:
    for row in rows:
        if row["annotation"] and not (root / row["annotation"]).is_file():
            raise DatasetError(
                f"{labels}: slide {row['slide']}: there is no annotation "
                f"{root / row['annotation']}; "
                "write it relative to the slides' folder, or absolute"
            )


def _classes(rows: Sequence[dict[str, str]], where: str, positive: str | None) -> dict[str, int]:
    """Each class and its number of slides; what the others are compared with comes first, `positive` last."""
    counts = Counter(row["label"] for row in rows)
    named = ", ".join(sorted(counts)[:5])
    if len(counts) > MAX_CLASSES or len(counts) == len(rows) > 2:
        raise DatasetError(
            f"{where}: {len(counts)} labels for {len(rows)} slides ({named}, ...); is it the "
            "wrong column? "
            "Say which with --label-column NAME"
        )
    if len({label.casefold() for label in counts}) < len(counts):
        raise DatasetError(
            f"{where}: labels that differ in case only ({named}); write them the same"
        )
    if positive is not None and positive not in counts:
        raise DatasetError(f"{where}: --positive: {unknown_name('label', positive, counts)}")
    return class_order(counts, positive)


def _write(yaml: Path, text: str, rows: Sequence[dict[str, str]], labels: Path) -> None:
    """Write both files, once it is seen that they read back."""
    columns = [name for name in rows[0] if name not in OPTIONAL or any(row[name] for row in rows)]
    cut = [{name: row[name] for name in columns} for row in rows]
    with TemporaryDirectory() as folder:
        trial = Path(folder) / yaml.name
        write_text(trial, text)
        write_csv(trial.with_suffix(".csv"), cut, columns)
        try:
            read_dataset(str(trial))
        except DatasetError as error:
            # What is wrong is wrong in the spreadsheet, whose lines are others.
            fault = re.sub(
                rf"{re.escape(str(trial.with_suffix('.csv')))}(: line \d+)?",
                lambda _: str(labels),
                str(error),
            )
            raise DatasetError(fault) from None
    write_csv(yaml.with_suffix(".csv"), cut, columns)
    write_text(yaml, text)
