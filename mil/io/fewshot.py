"""The table of few-shot curves, fewshot.csv, written and read here only."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from mil.errors import FormatError
from mil.io.tables import read_csv, write_csv

TABLE = "fewshot.csv"
# Numbers of slides double from row to row: a table with more curves than these is not ours.
MOST_ROWS = 10_000
MOST_SHOTS = 1 << 30


class Point(NamedTuple):
    """AUROC of probes of one number of slides of each class.

    Attributes:
        shots: Number of slides of each class.
        mean: Mean AUROC over draws and folds.
        sd: Standard deviation over draws, of the mean over folds.
        draws: Number of draws.
    """

    shots: int
    mean: float
    sd: float
    draws: int


class Curve(NamedTuple):
    """Points of one kind of vectors.

    Attributes:
        points: Points, by rising number of slides; none: too few patients.
        learned: Whether heads that make the vectors have seen the training labels.
    """

    points: Sequence[Point]
    learned: bool


def write_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Write a row for each point.

    Args:
        path: File to write.
        curves: Curves by name, such as `mean · uni`.
    """
    rows = [
        {"vectors": name, **point._asdict(), "learned": "yes" if curve.learned else ""}
        for name, curve in curves.items()
        for point in curve.points
    ]
    write_csv(path, rows, ("vectors", *Point._fields, "learned"))


def read_curves(path: Path) -> dict[str, Curve]:
    """Read fewshot.csv; curves without a point are not in it.

    Raises:
        FormatError: It is missing, or is not what `mil fewshot` writes.
    """
    rows = read_csv(path)
    points: dict[str, list[Point]] = {}
    learned = set()
    try:
        if len(rows) > MOST_ROWS:
            raise ValueError(f"{len(rows)} rows")
        for row in rows:
            points.setdefault(row["vectors"], []).append(_point(row))
            # The column is younger than the file.
            if row.get("learned"):
                learned.add(row["vectors"])
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(
            f"{path}: not a table of `mil fewshot` ({error}); delete it and run `mil fewshot` again"
        ) from None
    return {name: Curve(sorted(of_name), name in learned) for name, of_name in points.items()}


def _point(row: Mapping[str, str]) -> Point:
    point = Point(int(row["shots"]), float(row["mean"]), float(row["sd"]), int(row["draws"]))
    if not (0 < point.shots <= MOST_SHOTS and isfinite(point.mean) and isfinite(point.sd)):
        raise ValueError(f"shots {point.shots}, mean {point.mean}, sd {point.sd}")
    return point
