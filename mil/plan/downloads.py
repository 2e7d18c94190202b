"""Files that a run fetches, and slides that it need not fetch again."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mil.plan.parts import TABLES

if TYPE_CHECKING:
    from mil.plan.plan import Plan


def fetchable(plan: "Plan") -> dict[str, tuple[str, str]]:
    """URL and checksum of each file of the rule `fetch`; see `Plan.fetchable`."""
    slides = {} if plan.streaming else _slides(plan)
    return {**slides, **_annotations(plan)}


def pending(plan: "Plan") -> list[tuple[str, Path, bool]]:
    """URL, file and whether a checksum is known of each file that is still to be fetched."""
    files = {**_slides(plan, plan.unneeded), **_annotations(plan)}
    return [
        (url, plan.slides_dir / file, bool(checksum))
        for file, (url, checksum) in files.items()
        if not (plan.slides_dir / file).exists()
    ]


def _slides(plan: "Plan", left_out: Collection[str] = ()) -> dict[str, tuple[str, str]]:
    return {
        file.relative_to(plan.slides_dir).as_posix(): (row.url, row.checksum)
        for row in plan.slides.values()
        if row.url
        and row.slide not in left_out
        # A folder whose accents are written apart holds what need not be fetched.
        and (file := plan.files[row.slide]).is_relative_to(plan.slides_dir)
    }


def _annotations(plan: "Plan") -> dict[str, tuple[str, str]]:
    return {
        file.relative_to(plan.slides_dir).as_posix(): (plan.slides[name].annotation_url, "")
        for name, file in plan.annotations.items()
        if plan.slides[name].annotation_url and file.is_relative_to(plan.slides_dir)
    }


def unneeded(plan: "Plan") -> set[str]:
    """Slides that are not on the disk and need not be: tiles and bags of all encoders exist.

    Of slides that were removed once they were embedded, none is downloaded again.
    """
    absent = {name for name, file in plan.files.items() if not file.exists()}
    for folder in [*_tiles_dirs(plan), *plan.bags_dirs.values()] if absent else ():
        # A folder is listed once: asking for each file is slow on a network's disk.
        files = {file.name for file in folder.glob("*.h5")}
        absent = {name for name in absent if f"{name}.h5" in files}
    return absent


def is_streaming(plan: "Plan") -> bool:
    """Whether each slide is fetched, tiled, embedded and removed by one job.

    So it is too where an earlier run streamed all slides, and none is needed again: a
    later run that does not ask for it trains on the bags as they are.
    """
    if not any(row.url for row in plan.slides.values()):
        return False
    if not plan.config.fetch.keep:
        return True
    absent = {name for name, file in plan.files.items() if not file.exists()}
    # Jobs that stream write no table of tiles.
    tables = [file for folder in _tiles_dirs(plan) for file in folder.glob(f"{TABLES}/*.csv")]
    return bool(absent) and absent <= plan.unneeded and not tables


def _tiles_dirs(plan: "Plan") -> list[Path]:
    folder = Path("results") / plan.config.dataset / "tile"
    return [folder / tiling for tiling in dict.fromkeys(kind.tiling for kind in plan.extracted)]
