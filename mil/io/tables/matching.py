"""Matching of rows of a spreadsheet and slides, by name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mil.io.tables.conventions import SUFFIXES, without_suffix
from mil.io.tables.faults import Faults
from mil.io.tables.ids import clean_id
from mil.io.tables.scan import SlideFile
from mil.io.tables.spreadsheet import Sheet
from mil.text import clean, is_empty

# Columns in which the names of slides are sought.
MOST_COLUMNS = 100
# Column of the image in a file of several.
SCENE = "scene"

# Line and row of each image of a file, by its scene.
_RowsOfFile = dict[str, tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class Matches:
    """Slides with their rows, and what is left over on either side, by name.

    Attributes:
        pairs: slides that have a label, with their row.
        lines: line of each of these rows.
        without_row: paths of slides that no row names.
        without_slide: names of rows that match no slide.
        without_label: paths of slides whose row has no label.
    """

    pairs: list[tuple[SlideFile, dict[str, str]]]
    lines: list[int]
    without_row: list[str]
    without_slide: list[str]
    without_label: list[str]


def match(
    sheet: Sheet,
    slides: Sequence[SlideFile],
    slide_column: str,
    label_column: str,
    faults: Faults,
) -> Matches:
    """Match rows and slides by name: with or without extension and folder, in any case.

    Rows of one file that differ in `scene` are several slides, whose ids end in the scene.

    Args:
        sheet: the table.
        slides: slides of the folder.
        slide_column: column that names the slides.
        label_column: column of the labels.
        faults: faults of the table, to which are added: nothing matches or has a label,
            a row matches two slides, or two rows match one slide.
    """
    scene_column = next((name for name in sheet.header if name.lower() == SCENE), "")
    rows, without_slide = _rows_by_file(sheet, slides, slide_column, scene_column, faults)
    of_slides = _rows_of_slides(slides, rows, scene_column)
    labelled = [each for each in of_slides if not is_empty(each[2][label_column])]
    if rows and not labelled:
        faults.add(
            f"no slide has a label in column {label_column!r}; "
            "say with --label-column NAME where they are"
        )
    # Not if the names are there, but ambiguous.
    if without_slide and len(without_slide) == len(sheet.rows):
        _refuse_names(sheet, slides, slide_column, without_slide[0], faults)
    without_label = [each[0] for each in of_slides if is_empty(each[2][label_column])]
    return Matches(
        pairs=[(slide, row) for slide, _, row in labelled],
        lines=[line for _, line, _ in labelled],
        without_row=[str(slide.path) for slide in slides if slide.slide not in rows],
        without_slide=without_slide,
        without_label=[str(slide.path) for slide in without_label],
    )


def _rows_by_file(
    sheet: Sheet,
    slides: Sequence[SlideFile],
    slide_column: str,
    scene_column: str,
    faults: Faults,
) -> tuple[dict[str, _RowsOfFile], list[str]]:
    """Rows of each file that they name, and the names of rows that match no slide."""
    index = _index(slides)
    rows: dict[str, _RowsOfFile] = defaultdict(dict)
    without_slide = []
    for line, row in sheet.rows:
        name = row[slide_column]
        candidates = _narrowed(_candidates(index, name), name)
        if not candidates:
            # No error yet: tables often cover more slides than a folder holds.
            without_slide.append(name or f"line {line}")
            continue
        if len(candidates) > 1:
            could_be = " or ".join(_shown(str(slide.path)) for slide in candidates[:3])
            faults.add(
                f": slide {name!r} could be {could_be}; write the one you mean", f"line {line}"
            )
            continue
        scene = row.get(scene_column, "").casefold()
        first_line, _ = rows[candidates[0].slide].setdefault(scene, (line, row))
        if first_line != line:
            faults.add(
                f"slide {candidates[0].path} stands on line {first_line} and on line {line}; "
                "keep one"
            )
    return rows, without_slide


def _rows_of_slides(
    slides: Sequence[SlideFile], rows: Mapping[str, _RowsOfFile], scene_column: str
) -> list[tuple[SlideFile, int, dict[str, str]]]:
    """Slides with the line and the row of each, in order of their files."""
    rows_of_slides = []
    for slide in slides:
        of_file = rows.get(slide.slide, {})
        for line, row in of_file.values():
            name = slide.slide
            if len(of_file) > 1:
                name = clean_id(f"{name}_{row[scene_column]}")
            rows_of_slides.append((replace(slide, slide=name), line, row))
    return rows_of_slides


def _refuse_names(
    sheet: Sheet, slides: Sequence[SlideFile], slide_column: str, example: str, faults: Faults
) -> None:
    others = columns_of_slides(sheet, slides)
    remedy = "make the names the same, or say with --slide-column NAME where they are"
    if others:
        remedy = f"column {others[0]!r} names slides of the folder: --slide-column {others[0]}"
        faults.propose("--slide-column", others[0])
    path = str(slides[0].path)
    # Names that look alike are told apart by their escapes.
    show = repr if example.isascii() or path.isascii() else ascii
    faults.add(
        f"no row names a slide of the folder: column {slide_column!r} has such as "
        f"{show(example)}, the folder has such as {show(path)}; {remedy}"
    )


def columns_of_slides(sheet: Sheet, slides: Sequence[SlideFile]) -> list[str]:
    """Columns most of whose cells name slides of the folder, the best first."""
    index = _index(slides)
    shares: dict[str, int] = {}
    for column in sheet.header[:MOST_COLUMNS]:
        cells = [row[column] for _, row in sheet.rows if row[column]]
        hits = sum(bool(_candidates(index, cell)) for cell in cells)
        if hits * 2 > len(cells):
            shares[column] = hits
    return sorted(shares, key=lambda column: -shares[column])


def without_header(sheet: Sheet, slides: Sequence[SlideFile]) -> str:
    """The name of a slide that stands where the header should; empty: none does."""
    index = _index(slides)
    return next((name for name in sheet.header[:MOST_COLUMNS] if _candidates(index, name)), "")


def _index(slides: Sequence[SlideFile]) -> dict[str, list[SlideFile]]:
    """Slides by every name they may have in a table.

    Names are the slide's id, and its path cut anywhere, with and without extension.
    """
    index: dict[str, list[SlideFile]] = defaultdict(list)
    for slide in slides:
        keys = {clean(slide.slide).lower()}
        for name in slide.names:
            for tail in _tails(name):
                keys.update(_keys(tail))
                # `a.ome` too, as programs call `a.ome.tif` that cut off the last ending.
                if tail.suffix.lower() in SUFFIXES:
                    keys.add(clean(str(tail.with_suffix(""))).lower())
        for key in keys:
            index[key].append(slide)
    return index


def _tails(name: PurePosixPath) -> list[PurePosixPath]:
    """The path, and the path without its first folder, its first two ..."""
    return [PurePosixPath(*name.parts[i:]) for i in range(len(name.parts))]


def _keys(name: PurePosixPath) -> tuple[str, str]:
    # Files copied from macOS have their accents written apart, tables seldom do.
    return clean(str(name)).lower(), clean(str(without_suffix(name))).lower()


def _candidates(index: dict[str, list[SlideFile]], text: str) -> list[SlideFile]:
    """The slides that a cell may name."""
    # The longest tail first, so that a folder's name counts where a table gives it.
    for tail in _tails(PurePosixPath(text.replace("\\", "/"))):
        for key in _keys(tail):
            if key in index:
                return index[key]
    return []


def _narrowed(candidates: list[SlideFile], text: str) -> list[SlideFile]:
    """Of slides whose names differ in case only, the one that is spelt exactly so."""
    exact = [slide for slide in candidates if text in _spellings(slide)]
    return exact or candidates


def _shown(text: str) -> str:
    """A name; with escapes if it holds letters that may look like others."""
    return text if text.isascii() else ascii(text)


def _spellings(slide: SlideFile) -> set[str]:
    names = {clean(str(name)) for name in slide.names}
    stems = {clean(str(without_suffix(name))) for name in slide.names}
    return {slide.slide} | names | stems
