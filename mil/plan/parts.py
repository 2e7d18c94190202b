"""Jobs over lists of slides: the parts of each stage, and what their tables say."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mil.io.tables.parts import number_of_parts, part_of, parts_of

# Folder of the parts' tables, below that of a stage's outputs.
TABLES = "parts"
# Time of an output that is not there; all others are greater.
LOST = -1


@dataclass(frozen=True)
class StageParts:
    """Slides of a stage, divided over its jobs.

    Attributes:
        slides: Ids of the slides that the stage has outputs for.
        parts: Number of parts, a power of two.
    """

    slides: Sequence[str]
    parts: int

    @classmethod
    def of(cls, slides: Sequence[str], slides_per_job: int) -> "StageParts":
        """Division of slides over jobs of about `slides_per_job`."""
        return cls(slides, number_of_parts(len(slides), slides_per_job))

    @property
    def members(self) -> dict[str, list[str]]:
        """Slides by the name of their part."""
        return parts_of(self.slides, self.parts)

    def names(self, slides: Sequence[str] | None = None) -> list[str]:
        """Names of the parts that hold these slides; None: all slides of the stage."""
        chosen = self.slides if slides is None else slides
        return [part.name for part in sorted({part_of(slide, self.parts) for slide in chosen})]


def refresh_tables(
    folder: Path,
    members: Mapping[str, Sequence[str]],
    suffixes: Sequence[str | tuple[str, ...]],
    further: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Bring the tables of a stage's parts up to date with its outputs.

    The table of a part that lost an output is removed: the part is gone through again when
    something needs it. Where an output was replaced since, the table takes its digest over,
    so that what depends on it is made again.

    Args:
        folder: Folder of a stage's outputs.
        members: Slides by the name of their part.
        suffixes: Endings of a slide's outputs; the first carries the digest. Of an output
            with several endings, one file is enough.
        further: Ending of one more output, of slides that have one.
    """
    tables = _times(folder / TABLES)
    if not tables:
        return
    outputs = _times(folder)
    for part, slides in members.items():
        written = tables.get(f"{part}.csv")
        if written is None:
            continue
        endings = {
            slide: (*suffixes, further[slide]) if slide in further else suffixes for slide in slides
        }
        times = {
            slide: [_time_of(slide, ending, outputs) for ending in of_slide]
            for slide, of_slide in endings.items()
        }
        table = folder / TABLES / f"{part}.csv"
        # A folder that cannot be written to is not run in either.
        with suppress(OSError):
            if any(LOST in of_slide for of_slide in times.values()):
                table.unlink()
                continue
            replaced = [slide for slide, of_slide in times.items() if max(of_slide) > written]
            if replaced:
                _take_over(table, {slide: folder / f"{slide}{suffixes[0]}" for slide in replaced})


def _time_of(slide: str, suffix: str | tuple[str, ...], outputs: Mapping[str, int]) -> int:
    """Time of change of an output, or of the latest of its possible files."""
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    return max(outputs.get(f"{slide}{one}", LOST) for one in suffixes)


def _take_over(table: Path, replaced: Mapping[str, Path]) -> None:
    """Write the digests of replaced outputs into the table of their part."""
    # Here, since they import HDF5, which a plan mostly does without.
    from mil.io.part_jobs import COLUMNS
    from mil.io.provenance import made_from
    from mil.io.tables import read_csv, write_csv

    digests = {slide: made_from(path) for slide, path in replaced.items()}
    rows = read_csv(table)
    write_csv(
        table,
        [{**row, "made_from": digests.get(row["slide"], row["made_from"])} for row in rows],
        COLUMNS,
    )


def _times(folder: Path) -> dict[str, int]:
    """Time of change of each file of a folder, nanoseconds; a folder is listed once."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_mtime_ns for entry in entries if entry.is_file()}
