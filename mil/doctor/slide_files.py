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
    """

    row: Slide
    slide: Path
    masks: UserMasks
    outlines: OutlineFiles


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
        outlines = OutlineFiles(_annotation(row, folder, dataset), masks, frame, rule)
        files.append(SlideFiles(row, locate(row, folder, dataset), masks, outlines))
    return files


def _annotation(row: Slide, folder: Path, dataset: DatasetConfig) -> Path | None:
    """Annotation of a slide; None where there is none, or where it is still to be fetched."""
    annotation = locate_annotation(row, folder, dataset)
    if annotation is not None and row.annotation_url and not annotation.exists():
        return None
    return annotation
