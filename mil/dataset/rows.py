"""Rows of the new slide table, made of rows of the spreadsheet."""

from mil.io.tables.conventions import SPLIT_WORDS
from mil.io.tables.scan import SlideFile

# Columns of the spreadsheet that are columns of the slide table, if their name says so.
SHARED = ("split", "mpp", "scene", "annotation", "path")


def row_of(
    file: SlideFile,
    cells: dict[str, str],
    columns: dict[str, str | None],
    annotations: dict[str, str],
) -> dict[str, str]:
    """One row of the slide table; further columns of the spreadsheet are kept.

    Args:
        file: The slide.
        cells: Its row of the spreadsheet.
        columns: Spreadsheet columns of slide, label and patient.
        annotations: Path of the annotation beside each slide, by slide.
    """
    further = {key: value for key, value in cells.items() if key not in columns.values()}
    shared = {key.lower(): further.pop(key) for key in list(further) if key.lower() in SHARED}
    split = shared.get("split", "").lower()
    row = {
        "slide": file.slide,
        # Empty: the slide then counts as a patient of its own.
        "patient": cells[columns["patient"]] if columns["patient"] else "",
        "path": file.path.as_posix(),
        "label": cells[columns["label"] or ""],
        "split": SPLIT_WORDS.get(split, split),
        "mpp": shared.get("mpp", ""),
        "scene": shared.get("scene", ""),
        # The spreadsheet's cell overrides an annotation beside the slide.
        "annotation": shared.get("annotation", "") or annotations.get(file.slide, ""),
    }
    for key, value in further.items():
        # A column that has our name but was not chosen for it gets another name.
        is_ours = key in ("slide", "label", "patient")
        row[f"sheet_{key}" if is_ours else key] = value
    return row
