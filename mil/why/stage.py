"""A file in; how it came about out. No torch."""

import re
from pathlib import Path

import h5py

from mil.errors import DatasetError, FormatError
from mil.io.bags.file import FORMAT as BAG_FORMAT
from mil.io.probe import check_opens
from mil.io.results import METRICS, PREDICTIONS
from mil.io.tiles import FORMAT as TILES_FORMAT
from mil.io.vectors import FORMAT as VECTORS
from mil.trained.record import RECORD
from mil.why.answer import Answer
from mil.why.heads import of_head, of_scores
from mil.why.heatmaps import of_heatmap
from mil.why.joined import of_any_bag
from mil.why.predictions import of_predictions
from mil.why.results import of_folds, of_report
from mil.why.slides import of_tiles
from mil.why.study import Study, study_of
from mil.why.vectors import of_vectors

FOLDS = re.compile(r"folds[0-9]*\.csv")
EVALUATED = (PREDICTIONS, METRICS, "predictions_patients.csv")
REPORT = "report.html"
KINDS = (
    "a tiles file, a bag, folds1.csv, a head's folder, a score file, a vectors file, "
    "predictions.csv, metrics.json, a heatmap or report.html"
)


def run(
    path: Path, *, slide: str = "", dataset: str = "", slides_dir: Path | None = None
) -> Answer:
    """How a file came about.

    Args:
        path: Result of a study, or the folder of a head.
        slide: Slide whose prediction is asked about; empty: all of a table.
        dataset: Name or yaml of the dataset; empty: the name of the study's folder.
        slides_dir: Folder of the slides; None: that of the dataset.

    Raises:
        FormatError: The file cannot be read, or is of no kind that states how it was made.
        DatasetError: The table has no such slide, or `slide` does not go with the file.
    """
    # Neither does a pipe count, whose writer would be waited for.
    if not path.is_file() and not path.is_dir():
        raise FormatError(f"{path}: no such file; give {KINDS}")
    study = study_of(path, dataset=dataset, slides=slides_dir)
    if path.name in EVALUATED:
        return of_predictions(path, study, slide)
    if slide:
        raise DatasetError(f"--slide goes with predictions.csv, not with {path}; leave it out")
    if path.name == REPORT:
        return of_report(path, dataset, slides_dir)
    if FOLDS.fullmatch(path.name):
        return of_folds(path, study)
    folder = path if path.is_dir() else path.parent
    if (folder / RECORD).is_file():
        return of_head(folder, study)
    if path.suffix == ".h5":
        return _of_h5(path, study)
    if path.is_file() and study is not None and "heatmap" in path.parts:
        return of_heatmap(path, study)
    if path.suffix == ".png":
        return of_heatmap(path, study)
    raise FormatError(f"{path}: states nothing about its making; give {KINDS}")


def _of_h5(path: Path, study: Study | None) -> Answer:
    check_opens(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            name = str(file.attrs.get("format", ""))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        raise FormatError(f"{path}: is no HDF5 file, or is damaged; give {KINDS}") from None
    answers = {
        TILES_FORMAT: of_tiles,
        BAG_FORMAT: of_any_bag,
        "mil.score": of_scores,
        VECTORS: of_vectors,
    }
    if name not in answers:
        raise FormatError(f"{path}: is no file of mil; give {KINDS}")
    return answers[name](path, study)
