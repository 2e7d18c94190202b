"""Bags and vectors that a run has yet to make, by the tables of its parts."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mil.config.slide_encoders import published_slide_encoders
from mil.config.stain import NO_STAIN_NORM
from mil.errors import FormatError
from mil.plan.parts import TABLES

if TYPE_CHECKING:
    from mil.plan.plan import Plan


def stain_to_normalise(plan: "Plan") -> str:
    """Method of stain normalisation of the bags that are still to be made.

    Args:
        plan: The run.

    Returns:
        `none` too where all bags exist, or are precomputed.
    """
    method = plan.config.features.stain_norm
    if method == NO_STAIN_NORM or plan.precomputed_dir is not None:
        return NO_STAIN_NORM
    folders = list(plan.bags_dirs.values())
    parts = plan.parts("features").names()
    is_done = _all_made(folders, parts) and all(_stain_of(folder) == method for folder in folders)
    return NO_STAIN_NORM if is_done else method


def slide_encoders_to_load(plan: "Plan") -> list[str]:
    """Published slide encoders of which vectors are still to be made.

    Args:
        plan: The run.
    """
    if not plan.config.slide_encoder:
        return []
    published = published_slide_encoders()
    parts = plan.parts("score").names()
    results = Path("results") / plan.config.dataset / "embed"
    names = [
        name
        for encoder, tiling in plan.tilings.items()
        for name in plan.slide_encoders_of(encoder)
        if name in published and not _all_made([results / tiling / encoder / name], parts)
    ]
    return list(dict.fromkeys(names))


def _all_made(folders: Iterable[Path], parts: Sequence[str]) -> bool:
    """Whether every part has its table in each folder of outputs."""
    # A folder is listed once: asking for each file is slow on a network's disk.
    tables = [{file.name for file in (folder / TABLES).glob("*.csv")} for folder in folders]
    return all(f"{part}.csv" in of_folder for of_folder in tables for part in parts)


def _stain_of(folder: Path) -> str | None:
    """Stain normalisation of the first bag; None if it cannot be read. One is read for all."""
    bag = next(folder.glob("[!.]*.h5"), None)
    if bag is None:
        return None
    # Here, because a run without stain normalisation needs no HDF5.
    from mil.io.bags import read_header

    try:
        return read_header(bag).stain_norm or NO_STAIN_NORM
    except FormatError:
        return None
