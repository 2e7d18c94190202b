"""Folders of labelled tiles: small images, each with tumour or without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, UnidentifiedImageError

from mil.errors import DatasetError, brief, some
from mil.io.tables.paths import existing
from mil.io.tables.spreadsheet import read_sheet
from mil.progress import progress

TABLE = "labels.csv"
# Columns of the table that may hold the path of a tile; the first that is there counts.
PATH_COLUMNS = ("file", "path", "filename")
# Words for the two classes, in the table and as names of subfolders.
CLASS_OF = {"0": 0, "normal": 0, "1": 1, "tumour": 1, "tumor": 1}
CLASS_NAMES = ("normal", "tumour")
IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
# Tiles of a brighter mean are blank: glass has no label.
BLANK_MEAN = 235


@dataclass(frozen=True, eq=False)
class LabelledTiles:
    """Tiles of a folder in a fixed order.

    Attributes:
        folder: the folder.
        paths: file of each tile, in the order of the table or of its sorted names.
        labels: 1 for tumour, 0 for normal.
    """

    folder: Path
    paths: list[Path]
    labels: Int[np.ndarray, " tiles"]


def read_labelled_tiles(folder: Path) -> LabelledTiles:
    """Find the tiles of a folder and their labels.

    Args:
        folder: folder with a `labels.csv` (columns `file`, `path` or `filename`, and
            `label`), or with one subfolder for each class: `normal` and `tumour`, or
            `0` and `1`.

    Raises:
        DatasetError: there is no such folder, table or image, a label is none of the
            two, or all tiles are of one class.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give a folder of labelled tiles")
    table = folder / TABLE
    rows = _rows_of_table(table) if table.is_file() else _rows_of_folders(folder)
    paths = [path for path, _ in rows]
    labels = np.array([label for _, label in rows], dtype=np.int64)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(f"{table}: no such images: {some(missing)}; correct their paths")
    for label, name in enumerate(CLASS_NAMES):
        if label not in labels:
            raise DatasetError(
                f"{folder}: no tile of the class {name!r} among {len(labels)}; composites need "
                "tiles of both classes"
            )
    return LabelledTiles(folder, paths, labels)


def _rows_of_table(table: Path) -> list[tuple[Path, int]]:
    sheet = read_sheet(table)
    path_column = next((name for name in PATH_COLUMNS if name in sheet.header), None)
    if path_column is None or "label" not in sheet.header:
        raise DatasetError(
            f"{table}: needs rows with the columns label and one of {', '.join(PATH_COLUMNS)}"
        )
    tiles = []
    for number, row in sheet.rows:
        word = row["label"].lower()
        if word not in CLASS_OF:
            raise DatasetError(
                f"{table}: line {number}: label {word!r}; write 0 for normal and 1 for tumour"
            )
        tiles.append((existing(table.parent / row[path_column]), CLASS_OF[word]))
    return tiles


def _rows_of_folders(folder: Path) -> list[tuple[Path, int]]:
    tiles = []
    for child in sorted(folder.iterdir()):
        label = CLASS_OF.get(child.name.lower())
        if label is not None and child.is_dir():
            images = sorted(path for path in child.iterdir() if path.suffix.lower() in IMAGES)
            tiles += [(path, label) for path in images]
    if not tiles:
        raise DatasetError(
            f"{folder}: no {TABLE} here, and no images in subfolders normal and tumour, or 0 and 1"
        )
    return tiles


def read_tile(path: Path, side_px: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Pixels of a tile, resized with a bicubic filter if a side is named.

    Args:
        path: image.
        side_px: side of the result, pixels; None: as stored.

    Raises:
        DatasetError: the file is no image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    # Pillow raises these for a damaged PNG, too.
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        reason = brief(error)
        raise DatasetError(f"{path}: not an image ({reason}); remove it from the tiles") from None
    if side_px is not None:
        image = image.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(image)


def tiles_with_tissue(tiles: LabelledTiles) -> Bool[np.ndarray, " tiles"]:
    """Whether each tile shows tissue; a few of PatchCamelyon are blank."""
    has_tissue = np.zeros(len(tiles.paths), bool)
    with progress("read tiles", len(tiles.paths), "tiles") as advance:
        for index, path in enumerate(tiles.paths):
            has_tissue[index] = read_tile(path).mean() < BLANK_MEAN
            advance(1)
    return has_tissue
