"""Tables on disk: the slide table, folds and splits, spreadsheets, other tools' conventions."""

from mil.io.tables.conventions import SPLITS
from mil.io.tables.csv_files import read_csv, write_csv
from mil.io.tables.ids import clean_id, id_fault, id_of, valid_id
from mil.io.tables.slide_row import COLUMNS, Slide
from mil.io.tables.slides import read_dataset, read_folds, read_slides

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Slide",
    "clean_id",
    "id_fault",
    "id_of",
    "read_csv",
    "read_dataset",
    "read_folds",
    "read_slides",
    "valid_id",
    "write_csv",
]
