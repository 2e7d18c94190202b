"""A dataset without slides: the yaml and the table that a run on imported bags wants."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mil.config import NAME
from mil.errors import DatasetError, unknown_name
from mil.interop.labels import Row
from mil.io.atomic import write_text
from mil.io.tables import COLUMNS, read_dataset, write_csv
from mil.io.tables.class_order import class_order
from mil.io.tables.spreadsheet import MAX_CLASSES

YAML = """\
# Made by `mil bags import`: the slides are known by their bags. The table is the csv beside this file.
title: {title}
classes: {classes}
positive: {positive}
slides_dir: {slides_dir}
"""


def check_free(name: str, folder: Path, force: bool) -> None:
    """Whether a dataset of that name may be written.

    Raises:
        DatasetError: the name cannot be one, or it is there already.
    """
    if not re.fullmatch(NAME, name):
        raise DatasetError(
            f"dataset name {name!r}: use letters, digits, dots, dashes and underscores only"
        )
    for file in (folder / f"{name}.yaml", folder / f"{name}.csv"):
        if file.exists() and not force:
            raise DatasetError(
                f"{file}: is there already; choose another name, or overwrite it with --force"
            )


def classes_of(labels: Sequence[str], positive: str) -> dict[str, int]:
    """Each class and its number of slides; what the others are compared with first, `positive` last.

    Raises:
        DatasetError: there are too many, or `positive` is none of them.
    """
    counts = Counter(labels)
    if len(counts) > MAX_CLASSES:
        raise DatasetError(
            f"{len(counts)} different labels: the wrong column? Say which with --label-column NAME"
        )
    if positive and positive not in counts:
        raise DatasetError(f"--positive: {unknown_name('label', positive, counts)}")
    return class_order(counts, positive)


def write_dataset(
    name: str,
    folder: Path,
    rows: Sequence[Row],
    *,
    splits: Mapping[str, str],
    sizes: Mapping[str, float],
    positive: str,
    slides_dir: Path | None,
) -> dict[str, int]:
    """Write `NAME.yaml` and `NAME.csv`, once it is seen that they read back.

    Args:
        name: of the dataset.
        folder: where both go.
        rows: the slides.
        splits: the split of each slide; empty: none is given.
        sizes: micrometres per pixel of level 0, by slide, where they are known.
        positive: the class of interest; empty: the last.
        slides_dir: where the slides are, if they are there.

    Returns:
        The classes and their numbers of slides.

    Raises:
        DatasetError: the rows cannot be a dataset.
    """
    classes = classes_of([row.label for row in rows], positive)
    table = [_cells(row, splits, sizes) for row in rows]
    columns = [
        key for key in table[0] if key not in ("split", "mpp") or any(cells[key] for cells in table)
    ]
    values = {
        "title": name,
        "classes": list(classes),
        "positive": positive or list(classes)[-1],
        "slides_dir": str(slides_dir.resolve()) if slides_dir else "",
    }
    # JSON is YAML, and its quotes keep `0` and `no` strings.
    text = YAML.format(
        **{key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    )
    with TemporaryDirectory() as trial:
        _write(Path(trial), name, text, table, columns)
        try:
            read_dataset(str(Path(trial) / f"{name}.yaml"))
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(Path(trial)), str(folder))) from None
    _write(folder, name, text, table, columns)
    return classes


def _cells(row: Row, splits: Mapping[str, str], sizes: Mapping[str, float]) -> dict[str, str]:
    """One line of the table; columns of the other tool that have a name of ours go under another."""
    others = {
        f"sheet_{key}" if key.lower() in COLUMNS else key: value
        for key, value in row.others.items()
    }
    mpp = sizes.get(row.slide)
    return {
        "slide": row.slide,
        "patient": row.patient,
        "label": row.label,
        "split": splits.get(row.slide, ""),
        "mpp": f"{mpp:.10g}" if mpp else "",
        **others,
    }


def _write(
    folder: Path, name: str, text: str, table: Sequence[Mapping[str, str]], columns: Sequence[str]
) -> None:
    write_csv(
        folder / f"{name}.csv", [{key: cells[key] for key in columns} for cells in table], columns
    )
    write_text(folder / f"{name}.yaml", text)
