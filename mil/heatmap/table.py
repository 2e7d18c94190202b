"""The table of a heatmap: a row for each tile."""

import csv
from pathlib import Path

import numpy as np

from mil.heatmap.measurements import Columns
from mil.io.atomic import atomic_path
from mil.io.bags import BagPositions
from mil.io.tables.formulas import escaped

EMPTY = ("x", "y", "attention", "percentile", "relative")


def write_table(path: Path, columns: Columns) -> None:
    """Write columns of numbers as a CSV, whole or not at all.

    Args:
        path: File to write.
        columns: Texts of the numbers, by the name of the column.
    """
    with atomic_path(path) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        # One line end on every system, so that files are comparable byte by byte. Names
        # hold those of classes, which a spreadsheet program must not run; the cells are
        # numbers.
        csv.writer(file, lineterminator="\n").writerow(map(escaped, columns))
        file.writelines(map("{}\n".format, map(",".join, zip(*columns.values(), strict=True))))


def empty_table() -> Columns:
    """The columns of a slide without tiles."""
    return {name: [] for name in EMPTY}


def tile_names(bag: BagPositions) -> Columns:
    """Columns that name each valid tile: its corner, else its row in the bag, from 0."""
    if bag.coords is not None:
        corners = bag.coords[bag.valid]
        return {name: list(map(str, corners[:, axis].tolist())) for axis, name in enumerate("xy")}
    if bag.coords_um is not None:
        corners_um = bag.coords_um[bag.valid].astype(float).round(2)
        return {
            f"{name}_um": list(map(str, corners_um[:, axis].tolist()))
            for axis, name in enumerate("xy")
        }
    return {"tile": list(map(str, np.flatnonzero(bag.valid).tolist()))}
