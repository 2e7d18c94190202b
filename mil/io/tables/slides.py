"""The slide table: one row a slide, read as strings and checked before anything runs."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mil.config import DatasetConfig, dataset_path
from mil.errors import DatasetError, FormatError, unknown_name
from mil.io.atomic import atomic_path
from mil.io.tables.conventions import NO_LABEL

SPLITS = ("train", "val", "test")
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
IN_FOLDER = ("path", "annotation", "tissue", "region")  # columns of paths below the slides' folder
# An id becomes a file name on every system: no separators, no wildcards of the
# workflow, nothing hidden.
_NEVER = r"/\\{}*?\"'<>|:\x00-\x1f\x7f\ud800-\udfff"  # the last: a file's name that is not UTF-8
SLIDE_ID = re.compile(rf"[^\s.\-{_NEVER}][^{_NEVER}]{{0,149}}")


class LabelGrammar(NamedTuple):
    """What a task says about labels; its functions raise ValueError."""

    columns: tuple[str, ...]  # may stand for `label`; empty: none
    join: Callable[..., str]  # cells of these columns -> label
    check: Callable[[str], str]  # label as written -> canonical label


@dataclass(frozen=True)
class Slide:
    """One row of the slide table."""

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


def valid_id(name: str) -> bool:
    """Whether a slide id can be part of a file name everywhere; at most 150 characters."""
    return bool(SLIDE_ID.fullmatch(name)) and ".." not in name


def read_dataset(name: str) -> tuple[DatasetConfig, list[Slide]]:
    """A dataset's yaml and its slide table, by name or by the path of the yaml."""
    path = dataset_path(name)
    # Tasks import numpy, which the many who only want `Slide` or `write_csv` can do without.
    from mil.tasks import load_dataset

    dataset = load_dataset(name)
    return dataset, read_slides(path.with_suffix(".csv"), dataset)


def read_slides(path: Path, dataset: DatasetConfig) -> list[Slide]:
    """Read and check a slide table.

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
            rows = list(_rows(csv.DictReader(file), path, dataset))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path}: not a csv in UTF-8 ({error}); save it as 'CSV UTF-8'"
        ) from None
    if not rows:
        raise DatasetError(f"{path}: the table has no rows")
    _check_unique(rows, path)
    return [slide for _, slide in rows]


def _rows(
    reader: "csv.DictReader[str]", path: Path, dataset: DatasetConfig
) -> Iterator[tuple[int, Slide]]:
    header = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = header
    named = _named(header, path, dataset)
    grammar = _label_grammar(dataset)
    for raw in reader:
        where = f"{path}: line {reader.line_num}"
        # Cells beyond the header come under the key None: a comma without quotes has
        # moved what follows it.
        if any(cell.strip() for cell in raw.pop(None, [])):
            raise DatasetError(
                f"{where} has more cells than the header; put text with a comma in quotes"
            )
        row = {key: (value or "").strip() for key, value in raw.items() if key}
        if any(row.values()):
            yield reader.line_num, _slide(row, named, where, grammar)


def _named(header: Sequence[str], path: Path, dataset: DatasetConfig) -> dict[str, str]:
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise DatasetError(f"{path}: the column {twice[0]!r} is there twice; rename or remove one")
    instead = _instead_of_label(header, dataset)
    known: tuple[str, ...] = COLUMNS
    if instead:
        known = (*(name for name in COLUMNS if name != "label"), *instead)
    for ours in dataset.columns:
        if ours not in known:
            raise DatasetError(
                f"{path.with_suffix('.yaml')}: columns: {unknown_name('column', ours, known)}"
            )
    for ours in ("slide", *(instead or ("label",)), *dataset.columns):
        theirs = dataset.columns.get(ours, ours)
        if theirs not in header:
            raise DatasetError(
                f"{path}: no column {theirs!r}; the table has: {', '.join(header)}. Add it, or "
                "name "
                f"the column that holds it in the dataset's yaml: `columns: {{{ours}: ITS_NAME}}`"
            )
    return {ours: dataset.columns.get(ours, ours) for ours in known}


def _instead_of_label(header: Sequence[str], dataset: DatasetConfig) -> tuple[str, ...]:
    """Columns that stand for `label` in a table, such as time and event; empty: `label` does."""
    columns = _label_grammar(dataset).columns
    if columns and (columns[0] in dataset.columns or "label" not in [*dataset.columns, *header]):
        return columns
    return ()


def _label_grammar(dataset: DatasetConfig) -> LabelGrammar:
    """Grammar of the labels of a dataset's task."""
    from mil.tasks import task_of

    task = task_of(dataset)
    return LabelGrammar(task.label_columns, task.joined_label, task.checked_label)


def _slide(row: dict[str, str], named: dict[str, str], where: str, grammar: LabelGrammar) -> Slide:
    values = {ours: row.get(theirs, "") for ours, theirs in named.items()}
    name = values["slide"]
    label = values.get("label", "")
    split = values["split"].lower()
    if not valid_id(name):
        raise DatasetError(
            f"{where}: slide id {name!r} cannot be a file name; use letters, digits, _ and -"
        )
    cells = [values.pop(column) for column in grammar.columns if column in values]
    try:
        label = grammar.join(*cells) if cells else label
        label = grammar.check(label)
    except ValueError as error:
        said = f" ({label!r})" if label else ""
        hint = (
            f"slide {name} has no label{said}"
            if label.lower() in NO_LABEL
            else f"slide {name}: label {label!r}"
        )
        raise DatasetError(f"{where}: {hint}; {error}") from None
    if split and split not in SPLITS:
        raise DatasetError(f"{where}: slide {name}: {unknown_name('split', split, SPLITS)}")
    for column in IN_FOLDER:
        if ".." in PurePosixPath(values[column].replace("\\", "/")).parts:
            raise DatasetError(
                f"{where}: slide {name}: {column} {values[column]!r} leaves the slides' folder "
                "by '..'"
            )
    for column, url in (("path", "url"), ("annotation", "annotation_url")):
        if values[url] and (not values[column] or PurePosixPath(values[column]).is_absolute()):
            raise DatasetError(
                f"{where}: slide {name}: {url} needs a {column} inside the slides' folder to "
                "save to"
            )
    mpp = _mpp(values.pop("mpp"), f"{where}: slide {name}")
    subgroups = {key: value for key, value in row.items() if key not in named.values()}
    patient = values.pop("patient") or name
    return Slide(
        **{**values, "label": label, "split": split}, patient=patient, mpp=mpp, subgroups=subgroups
    )


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = -1.0
    if not 0 < mpp < 1000:
        raise DatasetError(
            f"{where}: mpp {text!r} is not a number of micrometres per pixel, such as 0.25"
        )
    return mpp


def _check_unique(rows: Sequence[tuple[int, Slide]], path: Path) -> None:
    # Without regard to case, since some file systems have none.
    seen: dict[str, int] = {}
    for line, slide in rows:
        first = seen.setdefault(slide.slide.lower(), line)
        if first != line:
            raise DatasetError(
                f"{path}: slide {slide.slide!r} stands on line {first} and on line {line}; ids "
                "must differ"
            )
    paths: dict[str, str] = {}
    for _, slide in rows:
        written = str(PurePosixPath(slide.path.replace("\\", "/")))  # ./a.svs is a.svs
        other = paths.setdefault(written if slide.path else f"id {slide.slide}", slide.slide)
        if other != slide.slide:
            raise DatasetError(
                f"{path}: slides {other} and {slide.slide} have the same path {slide.path}; keep "
                "one"
            )
    splits: dict[str, tuple[str, str]] = {}
    for _, slide in rows:
        split, other = splits.setdefault(slide.patient, (slide.split, slide.slide))
        if split != slide.split:
            raise DatasetError(
                f"{path}: patient {slide.patient} is in two splits: {other} ({split or 'none'}) "
                "and "
                f"{slide.slide} ({slide.split or 'none'}); keep a patient's slides together"
            )


def write_csv(
    path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None
) -> None:
    """Write rows as a CSV file, whole or not at all; columns default to the keys of the first row."""
    with atomic_path(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of ours, all values as strings.

    Raises:
        FormatError: it is not there or is no text.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise FormatError(f"{path}: not a CSV file in UTF-8") from None


def read_folds(path: Path) -> list[dict[str, str]]:
    """Rows of a folds file; `fold` is a whole number as text, `split` one of the three.

    Raises:
        FormatError: it is another table.
    """
    rows = read_csv(path)
    for line, row in enumerate(rows, 2):
        if (
            not (row.get("fold") or "").isdecimal()
            or not row.get("slide")
            or row.get("split") not in SPLITS
        ):
            raise FormatError(
                f"{path}: line {line}: not of a folds file, which has the columns fold, slide, "
                "split"
            )
    return rows
