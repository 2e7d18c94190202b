"""One file of splits by any tool: CLAM's splits_k.csv, Patho-Bench's k=all.tsv, ACMIL's JSON, STAMP's splits.json."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mil.dataset.scan import without_suffix
from mil.dataset.sheet import Sheet, need_column
from mil.errors import ConfigError, DatasetError
from mil.exchange.labels import Row
from mil.io.tables import SPLITS

LARGEST_BYTES = 64 << 20
FLAGS = {"true", "false", ""}
EMPTY = {"", "nan"}
WORDS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
ACMIL = ("train_names", "val_names", "test_names")
KINDS = "CLAM's splits_k.csv, ACMIL's split_k.json, STAMP's splits.json, Patho-Bench's k=all.tsv, or our folds.csv"

Named = list[tuple[str, str]]  # name in the file, its split


@dataclass(frozen=True)
class Splits:
    """The split of each slide, which slides are in none, and which names of the file no slide has."""

    of: dict[str, str]
    without_split: list[str]
    without_slide: list[str]


def read_splits(path: Path, rows: Sequence[Row], fold: int | None) -> Splits:
    """The split of each slide.

    Args:
        path: the file.
        rows: the slides, with their patients.
        fold: which fold, where a file has several; as the file counts, from 0.

    Raises:
        DatasetError: it cannot be read, or a slide or a patient is in two splits.
        ConfigError: there are several folds and nobody says which.
    """
    named, by_patient = _from_json(path, fold) if path.suffix.lower() == ".json" else (_from_table(path, fold), False)
    names: dict[str, list[Row]] = {_key(row.patient if by_patient else row.slide): [] for row in rows}
    for row in rows:
        names[_key(row.patient if by_patient else row.slide)].append(row)
    of: dict[str, str] = {}
    for name, split in named:
        for row in names.get(_key(name), []):
            if of.setdefault(row.slide, split) != split:
                raise DatasetError(f"{path}: {name} is in {of[row.slide]} and in {split}; keep one")
    if not of:
        raise DatasetError(f"{path}: names none of the slides; it has such as {named[0][0] if named else 'nothing'!r}")
    _check_patients(path, rows, of)
    without = list(dict.fromkeys(name for name, _ in named if _key(name) not in names))
    return Splits(of, [row.slide for row in rows if row.slide not in of], without)


def _key(name: str) -> str:
    return str(without_suffix(PurePosixPath(PurePosixPath(name.replace("\\", "/")).name))).lower()


def _check_patients(path: Path, rows: Sequence[Row], of: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        other = first.setdefault(row.patient, row.slide) if row.slide in of else row.slide
        if of.get(other) != of.get(row.slide):
            raise DatasetError(
                f"{path}: patient {row.patient} is in two splits: slide {other} in {of[other]}, slide {row.slide} in "
                f"{of[row.slide]}; such a split leaks"
            )


def _from_json(path: Path, fold: int | None) -> tuple[Named, bool]:
    """Names and splits, and whether the names are patients."""
    found = _load(path)
    if isinstance(found, dict) and isinstance(found.get("splits"), list):
        parts = _chosen(path, dict(enumerate(found["splits"])), fold)
        keys, by_patient = {"train_patients": "train", "test_patients": "test"}, True
    else:
        parts, keys, by_patient = found, dict(zip(ACMIL, SPLITS, strict=True)), False
    lists = {key: parts.get(key) for key in keys} if isinstance(parts, dict) else {}
    if not lists or not all(_are_names(names) for names in lists.values()):
        raise DatasetError(f"{path}: not a file of splits that is known here: {KINDS}")
    return [(name, keys[key]) for key, names in lists.items() for name in names or []], by_patient


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _load(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error})") from None


def _from_table(path: Path, fold: int | None) -> Named:
    sheet = _sheet(path)
    if set(SPLITS) <= set(sheet.header):
        return _clam(sheet)
    folds = {int(name[5:]): name for name in sheet.header if name.startswith("fold_") and name[5:].isdecimal()}
    slide = need_column(sheet, "slide", None)
    if folds:
        column = _chosen(path, folds, fold)
        return _words(path, ((cells[slide], cells[column]) for _, cells in sheet.rows))
    if "split" not in sheet.header:
        raise DatasetError(f"{path}: not a file of splits that is known here: {KINDS}")
    rows = [cells for _, cells in sheet.rows]
    if "fold" in sheet.header:
        number = _chosen(path, {int(cells["fold"]): cells["fold"] for cells in rows if cells["fold"].isdecimal()}, fold)
        rows = [cells for cells in rows if cells["fold"] == number]
    return _words(path, ((cells[slide], cells["split"]) for cells in rows))


def _sheet(path: Path) -> Sheet:
    """A table whose first column may have no name, as pandas writes its index."""
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise DatasetError(f"{path}: not a file of splits that is known here: {KINDS}")
    try:
        lines = list(csv.reader(io.StringIO(_text(path)), delimiter="," if path.suffix.lower() == ".csv" else "\t"))
    except csv.Error as error:
        raise DatasetError(f"{path}: not a table ({error})") from None
    header = [name.strip() for name in lines[0]] if lines else []
    header[:1] = [header[0] or "slide"] if header else []
    rows = [dict(zip(header, [*map(str.strip, cells), *[""] * len(header)], strict=False)) for cells in lines[1:]]
    return Sheet(path, header, list(enumerate(rows, 2)))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DatasetError(f"{path}: too large for a file of splits")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not text in UTF-8") from None


def _clam(sheet: Sheet) -> Named:
    """Columns train, val and test: of names, or of true and false beside a first column of names."""
    cells = {cells[split].lower() for _, cells in sheet.rows for split in SPLITS}
    if not cells <= FLAGS:
        return [(cells[s], s) for _, cells in sheet.rows for s in SPLITS if cells[s].lower() not in EMPTY]
    slide = need_column(sheet, "slide", None)
    return [(cells[slide], s) for _, cells in sheet.rows for s in SPLITS if cells[s].lower() == "true"]


def _words(path: Path, pairs: Iterable[tuple[str, str]]) -> Named:
    named = []
    for slide, word in pairs:
        split = WORDS.get(word.lower(), word.lower())
        if split in SPLITS:
            named.append((slide, split))
        elif split not in EMPTY:
            raise DatasetError(f"{path}: slide {slide}: split {word!r} is none of train, val, test")
    return named


def _chosen(path: Path, folds: Mapping[int, Any], fold: int | None) -> Any:
    if fold is None and len(folds) == 1:
        return next(iter(folds.values()))
    if fold is None or fold not in folds:
        raise ConfigError(f"{path}: has the folds {', '.join(map(str, sorted(folds)))}; say which with --fold")
    return folds[fold]
