"""Dataset without slides: the yaml file and the table that a run on imported bags needs."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from mil.config import name_fault
from mil.errors import DatasetError, MilError, unknown_name
from mil.interop.labels import LabelledSlide
from mil.io.atomic import write_text
from mil.io.tables import COLUMNS, SPLITS, read_dataset, write_csv
from mil.io.tables.class_order import class_order
from mil.io.tables.columns import MAX_CLASSES
from mil.io.tables.conventions import SPLIT_WORDS
from mil.io.tables.label_options import OTHER_TASKS, LabelOptions, counted
from mil.io.tables.leakage import PatientSlide, check_patients_in_one_split
from mil.io.tables.slide_row import LARGEST_MPP

HEAD = """\
# Written by `{command}`: the slides are known by their bags.
# The table is the csv of the same name beside this file.
"""
# Columns that are left out where no slide has a value.
OPTIONAL_COLUMNS = ("split", "mpp", "annotation")


def check_writable(name: str, folder: Path, force: bool) -> None:
    """Check that a dataset of a name may be written.

    Args:
        name: name of the dataset.
        folder: folder of datasets.
        force: existing files may be overwritten.

    Raises:
        DatasetError: the name cannot be a file's, or the dataset exists already.
    """
    if fault := name_fault(name):
        raise DatasetError(f"dataset name {name!r}: {fault}")
    for file in (folder / f"{name}.yaml", folder / f"{name}.csv"):
        if file.exists() and not force:
            raise DatasetError(
                f"{file}: is there already; choose another name, or overwrite it with --force"
            )


def count_labels(
    labels: Sequence[str], positive: str, options: LabelOptions | None = None
) -> dict[str, int]:
    """Number of slides of each class, in the dataset's order of classes, or with the event.

    Args:
        labels: label of each slide.
        positive: class of interest, which becomes the last; empty: by their names.
        options: task of the labels; None: classification.

    Raises:
        DatasetError: there are too many classes, or `positive` is none of them.
        ConfigError: `positive` is none of the classes of another task.
    """
    if options is not None and not options.is_classification:
        options.positive_of(positive)
        return counted(labels, options)
    counts = Counter(labels)
    # A column of ids or ages taken for labels would make a class of each value.
    if len(counts) > MAX_CLASSES:
        raise DatasetError(
            f"{len(counts)} different labels of {len(labels)} slides, more than "
            f"{MAX_CLASSES} classes; {OTHER_TASKS}"
        )
    if positive and positive not in counts:
        raise DatasetError(f"--positive: {unknown_name('label', positive, counts)}")
    return class_order(counts, positive)


def write_dataset(
    name: str,
    folder: Path,
    rows: Sequence[LabelledSlide],
    *,
    splits: Mapping[str, str],
    mpp_by_slide: Mapping[str, float],
    positive: str,
    slides_dir: Path | None,
    options: LabelOptions | None = None,
    command: str = "mil bags import",
    more: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Write `NAME.yaml` and `NAME.csv`, after checking that they can be read back.

    Args:
        name: name of the dataset.
        folder: folder of datasets.
        rows: the slides.
        splits: split of each slide; empty: none is predefined.
        mpp_by_slide: micrometres per pixel of level 0, where known.
        positive: class of interest; empty: the last.
        slides_dir: folder of the slides, if they are there.
        options: task of the labels; None: classification.
        command: command that writes it, for the file's first line.
        more: further keys of the yaml, and others than these.

    Returns:
        Number of slides of each class, or with the event; see `count_labels`.

    Raises:
        DatasetError: the rows cannot be a dataset.
    """
    counts = count_labels([row.label for row in rows], positive, options)
    table = _table(rows, splits, mpp_by_slide)
    columns = [column for column in table[0] if _is_needed(column, table)]
    values = {
        "title": name,
        **_label_keys(counts, positive, options),
        "slides_dir": str(slides_dir.resolve()) if slides_dir else "",
        **(more or {}),
    }
    # JSON is YAML, and its quotes keep labels such as `0` and `no` texts.
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
    text = HEAD.format(command=command) + "".join(lines)
    # Tried elsewhere first, so that nothing broken is left among the user's datasets.
    with TemporaryDirectory() as trial:
        _write(Path(trial), name, text, table, columns)
        try:
            read_dataset(str(Path(trial) / f"{name}.yaml"))
        except MilError as error:
            raise type(error)(str(error).replace(trial, str(folder))) from None
    _write(folder, name, text, table, columns)
    return counts


def _label_keys(
    counts: Mapping[str, int], positive: str, options: LabelOptions | None
) -> dict[str, object]:
    """Keys of the yaml about labels."""
    if options is None or options.is_classification:
        return {"classes": list(counts), "positive": positive or list(counts)[-1]}
    keys: dict[str, object] = {"task": options.task}
    if options.class_names:
        keys |= {"classes": options.class_names, "positive": options.positive_of(positive)}
    return keys


def check_splits(rows: Sequence[LabelledSlide], table: Path) -> None:
    """Refuse a table whose column of splits divides a patient, before bags are written.

    Args:
        rows: the slides.
        table: their table, for the message.

    Raises:
        DatasetError: a patient is in two splits.
    """
    if "split" in _own_columns(rows):
        splits = (PatientSlide(row.patient, row.slide, _split_of(row)) for row in rows)
        check_patients_in_one_split(splits, str(table))


def _own_columns(rows: Sequence[LabelledSlide]) -> set[str]:
    """Columns of the table, small letters, that hold what ours of the same name do."""
    known = {
        "split": lambda cell: _split_word(cell) in ("", *SPLITS),
        "mpp": lambda cell: not cell or _is_mpp(cell.replace(",", ".")),
        "annotation": lambda cell: ".." not in PurePosixPath(cell.replace("\\", "/")).parts,
    }
    cells_by_column: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for name, cell in row.other_columns.items():
            cells_by_column[name.lower()].append(cell)
    return {name for name, holds in known.items() if all(map(holds, cells_by_column[name]))}


def _split_word(cell: str) -> str:
    return SPLIT_WORDS.get(cell.lower(), cell.lower())


def _is_mpp(text: str) -> bool:
    try:
        return 0 < float(text) < LARGEST_MPP
    except ValueError:
        return False


def _own_cell(row: LabelledSlide, column: str) -> str:
    return next((cell for name, cell in row.other_columns.items() if name.lower() == column), "")


def _split_of(row: LabelledSlide) -> str:
    return _split_word(_own_cell(row, "split"))


def _table(
    rows: Sequence[LabelledSlide], splits: Mapping[str, str], mpp_by_slide: Mapping[str, float]
) -> list[dict[str, str]]:
    """Rows of the slide table; the user's other columns follow, renamed where a name is taken."""
    own = _own_columns(rows)
    # A file of splits and the bags' own pixel sizes override the table.
    own -= {"split"} if splits else set()
    own -= {"mpp"} if mpp_by_slide else set()
    return [_cells(row, own, splits, mpp_by_slide) for row in rows]


def _cells(
    row: LabelledSlide,
    own: set[str],
    splits: Mapping[str, str],
    mpp_by_slide: Mapping[str, float],
) -> dict[str, str]:
    mpp = mpp_by_slide.get(row.slide)
    cells = {
        "slide": row.slide,
        "patient": row.patient,
        "label": row.label,
        "split": splits.get(row.slide, ""),
        # Ten digits, without the tail of a float's last bits.
        "mpp": f"{mpp:.10g}" if mpp else "",
    }
    if "split" in own:
        cells["split"] = _split_of(row)
    if "mpp" in own:
        cells["mpp"] = _own_cell(row, "mpp").replace(",", ".")
    if "annotation" in own:
        cells["annotation"] = _own_cell(row, "annotation")
    # They stay for subgroups and for the user; COLUMNS are the names that mil reads.
    for name, cell in row.other_columns.items():
        if name.lower() not in own:
            cells[f"sheet_{name}" if name.lower() in COLUMNS else name] = cell
    return cells


def _is_needed(column: str, table: Sequence[Mapping[str, str]]) -> bool:
    return column not in OPTIONAL_COLUMNS or any(cells[column] for cells in table)


def _write(
    folder: Path, name: str, text: str, table: Sequence[Mapping[str, str]], columns: Sequence[str]
) -> None:
    rows = [{column: cells[column] for column in columns} for cells in table]
    write_csv(folder / f"{name}.csv", rows, columns)
    # The yaml file comes last: only with it is there a dataset.
    write_text(folder / f"{name}.yaml", text)
