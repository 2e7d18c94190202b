"""Files of splits by any tool: CLAM's, ACMIL's, STAMP's, Patho-Bench's and our own; told by what is in them."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mil.errors import DatasetError, some
from mil.io.tables import SPLITS
from mil.io.tables.conventions import KNOWN, column_key, without_suffix

LARGEST_BYTES = 64 << 20
FLAGS = {"true", "false", ""}
EMPTY = {"", "nan"}
WORDS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
ACMIL = ("train_names", "val_names", "test_names")
KINDS = "CLAM's splits_k.csv, ACMIL's split_k.json, STAMP's splits.json, Patho-Bench's k=all.tsv, or our folds.csv"
NUMBERED = re.compile(
    r"splits?_(\d+)\.(?:csv|json)"
)  # one fold a file, as CLAM and ACMIL write them into a folder

Named = list[tuple[str, str]]  # name in the file, its split


class SplitFile(NamedTuple):
    """What a file says: by the number of the fold, names and their splits; names of patients, or of slides."""

    path: Path
    folds: dict[int, Named]
    by_patient: bool


@runtime_checkable
class OfPatient(Protocol):
    """A slide of some table."""

    @property
    def slide(self) -> str: ...
    @property
    def patient(self) -> str: ...


@dataclass(frozen=True)
class Splits:
    """The split of each slide, which slides are in none, and which names of the file no slide has."""

    of: dict[str, str]
    without_split: list[str]
    without_slide: list[str]


def split_files(path: Path) -> list[Path]:
    """The files of a division: the file itself, or those of a folder that hold a fold each, in order of their numbers.

    Raises:
        DatasetError: there is none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise DatasetError(f"{path}: no such file of splits")
        return [path]
    found = [file for file in path.iterdir() if NUMBERED.fullmatch(file.name)]
    if not found:
        raise DatasetError(
            f"{path}: holds no splits_0.csv (CLAM) or split_1.json (ACMIL); give the file of splits"
        )
    if len({file.suffix for file in found}) > 1:
        raise DatasetError(
            f"{path}: holds files of two tools, {some(sorted(file.name for file in found))}; "
            "give one"
        )
    return sorted(found, key=lambda file: int(file.stem.rpartition("_")[2]))


def read_split_file(path: Path) -> SplitFile:
    """All folds of a file, or of a folder of files with a fold each.

    Raises:
        DatasetError: it cannot be read, or is of no form that is known.
    """
    files = split_files(path)
    if files == [path]:
        return (
            _from_json(path)
            if path.suffix.lower() == ".json"
            else SplitFile(path, _from_table(path), False)
        )
    folds: dict[int, Named] = {}
    for file in files:
        found = read_split_file(file).folds
        if len(found) != 1:
            raise DatasetError(
                f"{file}: has {len(found)} folds, but a file of a folder holds one; give it alone"
            )
        folds[int(file.stem.rpartition("_")[2])] = next(iter(found.values()))
    return SplitFile(path, folds, False)


def splits_of(file: SplitFile, fold: int, rows: Sequence[OfPatient]) -> Splits:
    """The split of each slide in one fold.

    Slides are compared without folder, extension and case, patients as they are.

    Args:
        file: what was read.
        fold: its number, as the file counts.
        rows: the slides, with their patients.

    Raises:
        DatasetError: no slide is named, or a slide or a patient is in two splits.
    """
    named = file.folds[fold]
    key = str if file.by_patient else _key
    names: dict[str, list[OfPatient]] = {}
    for row in rows:
        names.setdefault(key(row.patient if file.by_patient else row.slide), []).append(row)
    of: dict[str, str] = {}
    for name, split in named:
        for row in names.get(key(name), []):
            if of.setdefault(row.slide, split) != split:
                raise DatasetError(
                    f"{file.path}: {name} is in {of[row.slide]} and in {split}; keep one"
                )
    if not of:
        such = named[0][0] if named else "nothing"
        raise DatasetError(f"{file.path}: names none of the slides; it has such as {such!r}")
    _check_patients(file.path, rows, of)
    without = list(dict.fromkeys(name for name, _ in named if key(name) not in names))
    return Splits(of, [row.slide for row in rows if row.slide not in of], without)


def _key(name: str) -> str:
    return str(without_suffix(PurePosixPath(PurePosixPath(name.replace("\\", "/")).name))).lower()


def _check_patients(path: Path, rows: Sequence[OfPatient], of: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        other = first.setdefault(row.patient, row.slide) if row.slide in of else row.slide
        if of.get(other) != of.get(row.slide):
            raise DatasetError(
                f"{path}: patient {row.patient} is in two splits: slide {other} in {of[other]}, "
                f"slide {row.slide} in "
                f"{of[row.slide]}; such a split leaks"
            )


def _from_json(path: Path) -> SplitFile:
    found = _load(path)
    if isinstance(found, dict) and isinstance(found.get("splits"), list):
        parts = found["splits"]
        by_patient = True
        keys = {"train_patients": "train", "val_patients": "val", "test_patients": "test"}
    else:
        parts = [found]
        keys = dict(zip(ACMIL, SPLITS, strict=True))
        by_patient = False
    folds = {}
    for number, part in enumerate(parts):
        lists = {key: part[key] for key in keys if key in part} if isinstance(part, dict) else {}
        if not lists or not all(_are_names(names) for names in lists.values()):
            raise DatasetError(f"{path}: not a file of splits that is known here: {KINDS}")
        folds[number] = [(name, keys[key]) for key, names in lists.items() for name in names]
    if not folds:
        raise DatasetError(f"{path}: has no fold")
    return SplitFile(path, folds, by_patient)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _load(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error})") from None


def _from_table(path: Path) -> dict[int, Named]:
    header, rows = _table(path)
    if set(SPLITS) <= set(header):
        return {0: _clam(path, header, rows)}
    columns = {
        int(name[5:]): name for name in header if name.startswith("fold_") and name[5:].isdecimal()
    }
    slide = _slide_column(path, header)
    if columns:
        return {
            k: _words(path, ((row[slide], row[columns[k]]) for row in rows))
            for k in sorted(columns)
        }
    if "split" not in header:
        raise DatasetError(f"{path}: not a file of splits that is known here: {KINDS}")
    folds: dict[int, list[dict[str, str]]] = {}
    for row in rows:
        number = row.get("fold", "0")
        if not number.isdecimal():
            raise DatasetError(
                f"{path}: slide {row[slide]}: fold {number!r} is no number; folds are counted "
                "from 0"
            )
        folds.setdefault(int(number), []).append(row)
    if not folds:
        raise DatasetError(f"{path}: the table has no rows")
    return {
        k: _words(path, ((row[slide], row["split"]) for row in folds[k])) for k in sorted(folds)
    }


def _slide_column(path: Path, header: Sequence[str]) -> str:
    found = {column_key(name): name for name in header}
    column = next((found[name] for name in KNOWN["slide"] if name in found), None)
    if column is None:
        raise DatasetError(
            f"{path}: no column for the slide; call it `slide`. It has: {', '.join(header)}"
        )
    return column


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """A table whose first column may have no name, as pandas writes its index."""
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise DatasetError(f"{path}: not a file of splits that is known here: {KINDS}")
    try:
        lines = list(
            csv.reader(
                io.StringIO(_text(path)), delimiter="," if path.suffix.lower() == ".csv" else "\t"
            )
        )
    except csv.Error as error:
        raise DatasetError(f"{path}: not a table ({error})") from None
    header = [name.strip() for name in lines[0]] if lines else []
    twice = [name for name in header if name and header.count(name) > 1]
    if not header or twice:
        what = (
            f"the column {twice[0]!r} is there twice; rename or remove one"
            if twice
            else "the file is empty"
        )
        raise DatasetError(f"{path}: {what}")
    header[:1] = [header[0] or "slide"] if header else []
    filled = [
        [*map(str.strip, cells), *[""] * len(header)]
        for cells in lines[1:]
        if any(map(str.strip, cells))
    ]
    return header, [dict(zip(header, cells, strict=False)) for cells in filled]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DatasetError(f"{path}: too large for a file of splits")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not text in UTF-8") from None


def _clam(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Named:
    """Columns train, val and test: of names, or of true and false beside a first column of names."""
    cells = {row[split].lower() for row in rows for split in SPLITS}
    if not cells <= FLAGS:
        return [(row[s], s) for row in rows for s in SPLITS if row[s].lower() not in EMPTY]
    slide = _slide_column(path, header)
    return [(row[slide], s) for row in rows for s in SPLITS if row[s].lower() == "true"]


def _words(path: Path, pairs: Iterable[tuple[str, str]]) -> Named:
    named = []
    for slide, word in pairs:
        split = WORDS.get(word.lower(), word.lower())
        if split in SPLITS:
            named.append((slide, split))
        elif split not in EMPTY:
            raise DatasetError(f"{path}: slide {slide}: split {word!r} is none of train, val, test")
    return named
