"""Tables on disk: the slide table, folds and splits, spreadsheets and the conventions of other tools."""

from mil.io.tables.slides import (
    COLUMNS,
    SPLITS,
    Slide,
    read_csv,
    read_dataset,
    read_folds,
    read_slides,
    valid_id,
    write_csv,
)

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Slide",
    "read_csv",
    "read_dataset",
    "read_folds",
    "read_slides",
    "valid_id",
    "write_csv",
]
