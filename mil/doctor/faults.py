"""Faults that a run would meet besides those of slides: names, paths, URLs and packages."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mil.config import Config, dataset_path, name_fault
from mil.config.stain import missing_stain_package
from mil.doctor.slide_files import SlideFiles
from mil.errors import DatasetError, some
from mil.io.atomic import LONGEST_NAME, LONGEST_SCRATCH
from mil.io.tables import Slide
from mil.io.tables.ids import LONGEST_ENDING
from mil.io.tables.paths import check_annotations, check_no_braces
from mil.io.tables.urls import check_urls


def table_faults(
    files: Sequence[SlideFiles], dataset: str, results: Path, config: Config
) -> list[str]:
    """Faults of names, paths and URLs of the dataset, and packages that are not installed.

    Args:
        files: Rows of the slide table with their files.
        dataset: Name of the dataset, or path of its yaml.
        results: Folder of the results, which may not exist yet.
        config: Configuration of the run.
    """
    rows = [each.row for each in files]
    return [
        *_name_faults(dataset_path(dataset).stem, rows, results),
        *_path_faults(files, dataset, config),
        *package_faults(config),
    ]


def package_faults(config: Config) -> list[str]:
    """Packages that a run needs and that are not installed."""
    missing = missing_stain_package(config.features.stain_norm)
    return [f"features.{missing}"] if missing else []


def _name_faults(dataset: str, rows: Sequence[Slide], results: Path) -> list[str]:
    """Faults of the dataset's name, and of slide ids on the disk of the results."""
    faults = []
    if fault := name_fault(dataset):
        faults.append(f"dataset name {dataset!r}: {fault}; rename its yaml and csv")
    # Encrypted folders allow shorter names than most disks.
    longest = _longest_name(_existing(results)) - LONGEST_SCRATCH - LONGEST_ENDING
    too_long = [row.slide for row in rows if len(row.slide.encode()) > longest]
    if too_long:
        faults.append(
            f"slide ids over {longest} bytes are too long for files on the disk of {results} "
            f"({some(too_long)})"
        )
    return faults


def _path_faults(files: Sequence[SlideFiles], dataset: str, config: Config) -> list[str]:
    """Paths and URLs that a run would refuse, the first of each kind."""
    faults = []
    try:
        for each in files:
            check_no_braces(f"slide {each.row.slide}", each.slide)
    except DatasetError as error:
        faults.append(str(error))
    try:
        if not config.trust_urls:
            check_urls([each.row for each in files], dataset_path(dataset).parent)
    except DatasetError as error:
        faults.append(str(error))
    try:
        check_annotations({each.row.slide: each.annotation for each in files})
    except DatasetError as error:
        faults.append(str(error))
    return faults


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder that exists or will be made, bytes."""
    return shutil.disk_usage(os.fspath(_existing(folder))).free


def _existing(folder: Path) -> Path:
    """The nearest parent that exists: it is on the disk that the folder will be on."""
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _longest_name(folder: Path) -> int:
    """Bytes that a file's name may have in a folder."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        return LONGEST_NAME
