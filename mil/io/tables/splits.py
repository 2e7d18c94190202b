"""Files of splits by any tool: CLAM's, ACMIL's, STAMP's, Patho-Bench's and our own.

The kind of file is told by its contents.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mil.errors import DatasetError, some
from mil.io.tables.conventions import KNOWN, SPLIT_WORDS, SPLITS, column_key, without_suffix
from mil.io.tables.formulas import unescaped
from mil.io.tables.leakage import PatientSlide, check_patients_in_one_split
from mil.io.tables.slides import check_no_duplicates

LARGEST_BYTES = 64 << 20
# Cells of CLAM's tables of truth values, and cells that name no split; small letters.
FLAGS = {"true", "false", ""}
EMPTY = {"", "nan"}
# Keys of ACMIL's and of STAMP's JSON, and their splits.
ACMIL_KEYS = {"train_names": "train", "val_names": "val", "test_names": "test"}
STAMP_KEYS = {"train_patients": "train", "val_patients": "val", "test_patients": "test"}
# Prefix of Patho-Bench's columns, one for each fold.
FOLD_COLUMN = "fold_"
KINDS = (
    "CLAM's splits_k.csv, ACMIL's split_k.json, STAMP's splits.json, Patho-Bench's k=all.tsv, or "
    "our folds.csv"
)
UNKNOWN_KIND = f"not a file of splits that is known here: {KINDS}"
# One fold a file, as CLAM and ACMIL write them into a folder.
NUMBERED = re.compile(r"splits?_(\d+)\.(?:csv|json)")

NamedSplits = list[tuple[str, str]]  # name in the file, its split


class SplitFile(NamedTuple):
    """Contents of a file of splits.

    Attributes:
        path: the file or folder.
        folds: names and their splits, by the number of the fold.
        by_patient: whether the names are of patients, not of slides.
    """

    path: Path
    folds: dict[int, NamedSplits]
    by_patient: bool


@runtime_checkable
class OfPatient(Protocol):
    """A slide of some table, with its patient."""

    @property
    def slide(self) -> str: ...
    @property
    def patient(self) -> str: ...


@dataclass(frozen=True)
class Splits:
    """Splits of the slides of a table in one fold.

    Attributes:
        of: split of each slide that is in one.
        without_split: slides in no split.
        without_slide: names of the file that no slide has.
    """

    of: dict[str, str]
    without_split: list[str]
    without_slide: list[str]


def split_files(path: Path) -> list[Path]:
    """The files of a division into splits.

    They are the file itself, or the files of a folder that hold a fold each, in order
    of their numbers.

    Raises:
        DatasetError: there is no such file.
    """
    if not path.is_dir():
        if not path.is_file():
            raise DatasetError(f"{path}: no such file of splits")
        return [path]
    files = [file for file in path.iterdir() if NUMBERED.fullmatch(file.name)]
    if not files:
        raise DatasetError(
            f"{path}: holds no splits_0.csv (CLAM) or split_1.json (ACMIL); give the file of splits"
        )
    # Which of them was meant cannot be told.
    if len({file.suffix for file in files}) > 1:
        raise DatasetError(
            f"{path}: holds files of two tools, {some(sorted(file.name for file in files))}; "
            "give one"
        )
    return sorted(files, key=_fold_number)


def _fold_number(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def read_split_file(path: Path) -> SplitFile:
    """Read a file of splits, or a folder of files with a fold each.

    Raises:
        DatasetError: the file cannot be read, or is of no kind that is known.
    """
    files = split_files(path)
    if files == [path]:
        if path.suffix.lower() == ".json":
            return _from_json(path)
        return SplitFile(path, _from_table(path), by_patient=False)
    folds: dict[int, NamedSplits] = {}
    for file in files:
        in_file = read_split_file(file).folds
        if len(in_file) != 1:
            raise DatasetError(
                f"{file}: has {len(in_file)} folds, but a file of a folder holds one; give it alone"
            )
        folds[_fold_number(file)] = next(iter(in_file.values()))
    return SplitFile(path, folds, by_patient=False)


def splits_of(file: SplitFile, fold: int, rows: Sequence[OfPatient]) -> Splits:
    """The split of each slide in one fold.

    Slides are compared without folder, extension and case, patients as they are.

    Args:
        file: contents of the file of splits.
        fold: number of the fold, as the file counts.
        rows: the slides of the table, with their patients.

    Raises:
        DatasetError: no slide is named, or a slide or a patient is in two splits.
    """
    named = file.folds[fold]
    key = str if file.by_patient else _slide_key
    rows_by_key: dict[str, list[OfPatient]] = {}
    for row in rows:
        name = row.patient if file.by_patient else row.slide
        rows_by_key.setdefault(key(name), []).append(row)
    split_of: dict[str, str] = {}
    for name, split in named:
        for row in rows_by_key.get(key(name), []):
            first = split_of.setdefault(row.slide, split)
            if first != split:
                raise DatasetError(f"{file.path}: {name} is in {first} and in {split}; keep one")
    if not split_of:
        example = named[0][0] if named else "nothing"
        raise DatasetError(f"{file.path}: names none of the slides; it has such as {example!r}")
    in_split = [row for row in rows if row.slide in split_of]
    patients = (PatientSlide(row.patient, row.slide, split_of[row.slide]) for row in in_split)
    check_patients_in_one_split(patients, str(file.path))
    unknown = dict.fromkeys(name for name, _ in named if key(name) not in rows_by_key)
    without_split = [row.slide for row in rows if row.slide not in split_of]
    return Splits(split_of, without_split, list(unknown))


def _slide_key(name: str) -> str:
    """A slide's name as it is compared: without folder, extension and case."""
    file_name = PurePosixPath(name.replace("\\", "/")).name
    return str(without_suffix(PurePosixPath(file_name))).lower()


def _from_json(path: Path) -> SplitFile:
    content = _load_json(path)
    # STAMP's file holds all folds, ACMIL's is one fold.
    by_patient = isinstance(content, dict) and isinstance(content.get("splits"), list)
    keys = STAMP_KEYS if by_patient else ACMIL_KEYS
    folds = {}
    for number, fold in enumerate(content["splits"] if by_patient else [content]):
        lists = {key: fold[key] for key in keys if key in fold} if isinstance(fold, dict) else {}
        if not lists or not all(_are_names(names) for names in lists.values()):
            raise DatasetError(f"{path}: {UNKNOWN_KIND}")
        folds[number] = [(name, keys[key]) for key, names in lists.items() for name in names]
    if not folds:
        raise DatasetError(f"{path}: has no fold")
    return SplitFile(path, folds, by_patient)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _load_json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error})") from None


def _from_table(path: Path) -> dict[int, NamedSplits]:
    header, rows = _table(path)
    if set(SPLITS) <= set(header):
        return {0: _from_clam(path, header, rows)}
    slide_column = _slide_column(path, header)
    fold_columns = _fold_columns(header)
    if fold_columns:
        return {
            number: _as_splits(path, ((row[slide_column], row[column]) for row in rows))
            for number, column in sorted(fold_columns.items())
        }
    if "split" not in header:
        raise DatasetError(f"{path}: {UNKNOWN_KIND}")
    pairs_by_fold: dict[int, list[tuple[str, str]]] = {}
    for row in rows:
        # A table without folds is one fold.
        number = row.get("fold", "0")
        slide = row[slide_column]
        if not number.isdecimal():
            raise DatasetError(
                f"{path}: slide {slide}: fold {number!r} is no number; folds are counted from 0"
            )
        pairs_by_fold.setdefault(int(number), []).append((slide, row["split"]))
    if not pairs_by_fold:
        raise DatasetError(f"{path}: the table has no rows")
    return {number: _as_splits(path, pairs) for number, pairs in sorted(pairs_by_fold.items())}


def _fold_columns(header: Sequence[str]) -> dict[int, str]:
    """Patho-Bench's columns by the number of their fold."""
    columns = {}
    for name in header:
        number = name.removeprefix(FOLD_COLUMN)
        if name.startswith(FOLD_COLUMN) and number.isdecimal():
            columns[int(number)] = name
    return columns


def _slide_column(path: Path, header: Sequence[str]) -> str:
    by_key = {column_key(name): name for name in header}
    column = next((by_key[name] for name in KNOWN["slide"] if name in by_key), None)
    if column is None:
        raise DatasetError(
            f"{path}: no column for the slide; call it `slide`. It has: {', '.join(header)}"
        )
    return column


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a table whose first column may have no name, as of pandas' index."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".txt"):
        raise DatasetError(f"{path}: {UNKNOWN_KIND}")
    delimiter = "," if suffix == ".csv" else "\t"
    try:
        lines = list(csv.reader(io.StringIO(_text(path)), delimiter=delimiter))
    except csv.Error as error:
        raise DatasetError(f"{path}: not a table ({error})") from None
    header = [unescaped(name.strip()) for name in lines[0]] if lines else []
    if not header:
        raise DatasetError(f"{path}: the file is empty")
    check_no_duplicates(header, path)
    header[0] = header[0] or "slide"
    rows = []
    for line in lines[1:]:
        cells = [unescaped(cell.strip()) for cell in line]
        if any(cells):
            # Short lines are padded with empty cells, and cells beyond the header dropped.
            padded = cells + [""] * len(header)
            rows.append(dict(zip(header, padded, strict=False)))
    return header, rows


def _text(path: Path) -> str:
    try:
        # Parsed, it takes several times its size in memory.
        if path.stat().st_size > LARGEST_BYTES:
            raise DatasetError(f"{path}: too large for a file of splits")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not text in UTF-8") from None


def _from_clam(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> NamedSplits:
    """Splits by CLAM's columns train, val and test.

    They hold names, or true and false beside a first column of names.
    """
    cells = [(row, split, row[split].lower()) for row in rows for split in SPLITS]
    if not {cell for _, _, cell in cells} <= FLAGS:
        return [(row[split], split) for row, split, cell in cells if cell not in EMPTY]
    slide_column = _slide_column(path, header)
    return [(row[slide_column], split) for row, split, cell in cells if cell == "true"]


def _as_splits(path: Path, pairs: Iterable[tuple[str, str]]) -> NamedSplits:
    """Slides and their splits, from slides and words for a split."""
    named = []
    for slide, word in pairs:
        split = SPLIT_WORDS.get(word.lower(), word.lower())
        if split in SPLITS:
            named.append((slide, split))
        elif split not in EMPTY:
            raise DatasetError(f"{path}: slide {slide}: split {word!r} is none of train, val, test")
    return named
