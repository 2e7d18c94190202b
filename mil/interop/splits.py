"""One division of a file of splits, for the table of an imported dataset."""

from collections.abc import Sequence
from pathlib import Path

from mil.errors import ConfigError
from mil.interop.labels import Row
from mil.io.tables.splits import Splits, read_split_file, splits_of


def read_splits(path: Path, rows: Sequence[Row], fold: int | None) -> Splits:
    """The split of each slide.

    Args:
        path: the file; see `mil.io.tables.splits`.
        rows: the slides, with their patients.
        fold: which fold, where a file has several; as the file counts.

    Raises:
        DatasetError: it cannot be read, or a slide or a patient is in two splits.
        ConfigError: there are several folds and nobody says which.
    """
    file = read_split_file(path)
    if fold is None and len(file.folds) == 1:
        fold = next(iter(file.folds))
    if fold is None or fold not in file.folds:
        raise ConfigError(
            f"{path}: has the folds {', '.join(map(str, file.folds))}; say which with --fold"
        )
    return splits_of(file, fold, rows)
