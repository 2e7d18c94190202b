"""Files of each slide that a run reads: the slide, its masks and its annotation."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config import DatasetConfig
from mil.doctor.regions import OutlineFiles
from mil.io.annotations import PositiveClasses
from mil.io.tables import Slide
from mil.io.tables.paths import locate, locate_annotation, locate_masks
from mil.tile.plan import UserMasks


class SlideFiles(NamedTuple):
    """Row of the slide table, and the files that belong to it.

    Attributes:
        row: Row of the table.
        slide: File of the slide, which may be missing.
        masks: The user's masks of the slide.
        outlines: Files of its outlines.
        annotation: File of its annotation, also where it is still to be fetched; None: it
            has none.
    """

    row: Slide
    slide: Path
    masks: UserMasks
    outlines: OutlineFiles
    annotation: Path | None


def slide_files(rows: Sequence[Slide], folder: Path, dataset: DatasetConfig) -> list[SlideFiles]:
    """Files of all slides, in the order of the table.

    Args:
        rows: Rows of the slide table.
        folder: Folder of the slides.
        dataset: Dataset, which names patterns of files and classes of annotations.

    Raises:
        DatasetError: The table names a mask that does not exist, of a slide that does.
    """
    masks_by_slide = locate_masks(rows, folder, dataset)
    frame = dataset.geojson_frame
    rule = PositiveClasses(tuple(dataset.annotation_classes), dataset.positive_class)
    files: list[SlideFiles] = []
    for row in rows:
        masks = UserMasks()
        if row.slide in masks_by_slide:
            masks = UserMasks(**masks_by_slide[row.slide], frame=frame)
        annotation = locate_annotation(row, folder, dataset)
        outlines = OutlineFiles(_fetched(row, annotation), masks, frame, rule)
        files.append(SlideFiles(row, locate(row, folder, dataset), masks, outlines, annotation))
    return files


def _fetched(row: Slide, annotation: Path | None) -> Path | None:
    """Annotation of a slide; None where there is none, or where it is still to be fetched."""
    if annotation is not None and row.annotation_url and not annotation.exists():
        return None
    return annotation
