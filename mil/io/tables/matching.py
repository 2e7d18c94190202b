"""Matching of rows of a spreadsheet and slides, by name."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mil.errors import DatasetError
from mil.io.tables.conventions import NO_LABEL, without_suffix
from mil.io.tables.scan import SlideFile
from mil.io.tables.spreadsheet import Sheet


@dataclass(frozen=True)
class Matches:
    """Slides with their rows, and what is left over on either side, by name.

    Attributes:
        pairs: slides that have a label, with their row.
        without_row: paths of slides that no row names.
        without_slide: names of rows that match no slide.
        without_label: paths of slides whose row has no label.
    """

    pairs: list[tuple[SlideFile, dict[str, str]]]
    without_row: list[str]
    without_slide: list[str]
    without_label: list[str]


def match(
    sheet: Sheet, slides: Sequence[SlideFile], slide_column: str, label_column: str
) -> Matches:
    """Match rows and slides by name: with or without extension and folder, in any case.

    Args:
        sheet: the spreadsheet.
        slides: slides of the folder.
        slide_column: column that names the slides.
        label_column: column of the labels.

    Raises:
        DatasetError: nothing matches or has a label, a row matches two slides, or two
            rows match one slide.
    """
    index = _index(slides)
    rows: dict[str, tuple[int, dict[str, str]]] = {}
    without_slide = []
    for line, row in sheet.rows:
        slide = _lookup(index, row[slide_column], f"{sheet.path}: line {line}")
        if slide is None:
            # No error yet: tables often cover more slides than a folder holds.
            without_slide.append(row[slide_column] or f"line {line}")
        elif slide.slide in rows:
            first_line, _ = rows[slide.slide]
            raise DatasetError(
                f"{sheet.path}: slide {slide.path} stands on line {first_line} and on line "
                f"{line}; keep one"
            )
        else:
            rows[slide.slide] = line, row
    if not rows:
        raise DatasetError(
            f"{sheet.path}: no row names a slide of the folder: column {slide_column!r} has such "
            f"as {without_slide[0]!r}, the folder has such as {str(slides[0].path)!r}; "
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
    unlabelled = rows.keys() - labelled
    return Matches(
        pairs=[(slide, rows[slide.slide][1]) for slide in slides if slide.slide in labelled],
        without_row=[str(slide.path) for slide in slides if slide.slide not in rows],
        without_slide=without_slide,
        without_label=[str(slide.path) for slide in slides if slide.slide in unlabelled],
    )


def _index(slides: Sequence[SlideFile]) -> dict[str, list[SlideFile]]:
    """Slides by every name they may have in a table.

    Names are the slide's id, and its path cut anywhere, with and without extension.
    """
    index: dict[str, list[SlideFile]] = defaultdict(list)
    for slide in slides:
        keys = {slide.slide.lower()}
        for name in slide.names:
            for tail in _tails(name):
                keys.update(_keys(tail))
        for key in keys:
            index[key].append(slide)
    return index


def _tails(name: PurePosixPath) -> list[PurePosixPath]:
    """The path, and the path without its first folder, its first two ..."""
    return [PurePosixPath(*name.parts[i:]) for i in range(len(name.parts))]


def _keys(name: PurePosixPath) -> tuple[str, str]:
    return str(name).lower(), str(without_suffix(name)).lower()


def _lookup(index: dict[str, list[SlideFile]], text: str, where: str) -> SlideFile | None:
    """The slide that a cell names; None if no slide has that name."""
    # The longest tail first, so that a folder's name counts where a table gives it.
    for tail in _tails(PurePosixPath(text.replace("\\", "/"))):
        for key in _keys(tail):
            candidates = index.get(key, [])
            # Names may differ in case only: then the exact spelling decides.
            if len(candidates) > 1:
                exact = [slide for slide in candidates if text in _spellings(slide)]
                candidates = exact or candidates
            if len(candidates) > 1:
                could_be = " or ".join(str(slide.path) for slide in candidates[:3])
                raise DatasetError(
                    f"{where}: slide {text!r} could be {could_be}; write the one you mean"
                )
            if candidates:
                return candidates[0]
    return None


def _spellings(slide: SlideFile) -> set[str]:
    names = {str(name) for name in slide.names}
    stems = {str(without_suffix(name)) for name in slide.names}
    return {slide.slide} | names | stems
