"""Which row of a spreadsheet speaks of which slide."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mil.errors import DatasetError
from mil.io.tables.conventions import NO_LABEL, without_suffix
from mil.io.tables.scan import Found
from mil.io.tables.spreadsheet import Sheet


@dataclass(frozen=True)
class Matches:
    """What belongs together, and what is left over on either side, by name."""

    pairs: list[tuple[Found, dict[str, str]]]
    without_row: list[str]
    without_slide: list[str]
    without_label: list[str]


def match(sheet: Sheet, slides: Sequence[Found], slide_column: str, label_column: str) -> Matches:
    """Match rows and slides by name: with or without extension and folder, in any case.

    Raises:
        DatasetError: nothing matches or has a label, a row matches two slides, or two
            rows match one slide.
    """
    index = _index(slides)
    rows: dict[str, tuple[int, dict[str, str]]] = {}
    without_slide = []
    for line, row in sheet.rows:
        found = _lookup(index, row[slide_column], f"{sheet.path}: line {line}")
        if found is None:
            without_slide.append(row[slide_column] or f"line {line}")
        elif found.slide in rows:
            raise DatasetError(
                f"{sheet.path}: slide {found.path} stands on line {rows[found.slide][0]} and on "
                f"line {line}; keep one"
            )
        else:
            rows[found.slide] = line, row
    if not rows:
        raise DatasetError(
            f"{sheet.path}: no row names a slide of the folder: column {slide_column!r} has such "
            "as "
            f"{without_slide[0]!r}, the folder has such as {str(slides[0].path)!r}; "
            "make the names the same, or say with --slide-column NAME where they are"
        )
    labelled = {
        name for name, (_, row) in rows.items() if row[label_column].lower() not in NO_LABEL
    }
    if not labelled:
        raise DatasetError(
            f"{sheet.path}: no slide has a label in column {label_column!r}; "
            "say with --label-column NAME where they are"
        )
    return Matches(
        pairs=[(found, rows[found.slide][1]) for found in slides if found.slide in labelled],
        without_row=[str(found.path) for found in slides if found.slide not in rows],
        without_slide=without_slide,
        without_label=[
            str(found.path) for found in slides if found.slide in rows.keys() - labelled
        ],
    )


def _index(slides: Sequence[Found]) -> dict[str, list[Found]]:
    """Slides by every name they may have in a table: the path, cut anywhere, with and without extension."""
    index: dict[str, list[Found]] = defaultdict(list)
    for found in slides:
        keys = {found.slide.lower()}
        for name in found.names:
            keys |= {key for tail in _tails(name) for key in _keys(tail)}
        for key in keys:
            index[key].append(found)
    return index


def _tails(name: PurePosixPath) -> list[PurePosixPath]:
    return [PurePosixPath(*name.parts[i:]) for i in range(len(name.parts))]


def _keys(name: PurePosixPath) -> tuple[str, str]:
    return str(name).lower(), str(without_suffix(name)).lower()


def _lookup(index: dict[str, list[Found]], text: str, where: str) -> Found | None:
    for tail in _tails(PurePosixPath(text.replace("\\", "/"))):
        for key in _keys(tail):
            found = index.get(key, [])
            if len(found) > 1:
                found = [one for one in found if text in _spellings(one)] or found
            if len(found) > 1:
                could_be = " or ".join(str(one.path) for one in found[:3])
                raise DatasetError(
                    f"{where}: slide {text!r} could be {could_be}; write the one you mean"
                )
            if found:
                return found[0]
    return None


def _spellings(found: Found) -> set[str]:
    return {
        found.slide,
        *map(str, found.names),
        *(str(without_suffix(name)) for name in found.names),
    }
