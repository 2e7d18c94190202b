"""Jobs over lists of slides: the parts of each stage, and what their tables say."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mil.io.tables.parts import number_of_parts, part_of, parts_of

# Folder of the parts' tables, below that of a stage's outputs.
TABLES = "parts"
# Time of an output that is not there; all others are greater.
LOST = -1
# Replaced outputs of a part that are read to their end.
MOST_READ = 16


class Refreshed(NamedTuple):
    """What a run must make again.

    Attributes:
        damaged: Outputs that are not as they were written.
        incomplete: Tables that are not there, of parts that have outputs.
    """

    damaged: list[Path]
    incomplete: list[Path]


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
) -> Refreshed:
    """Bring the tables of a stage's parts up to date with its outputs.

    The table of a part that lost an output is removed: the part is gone through again when
    something needs it, and so is a part with an output that was damaged since. Where an
    output was replaced, the table takes its digest over, so that what depends on it is made
    again.

    Args:
        folder: Folder of a stage's outputs.
        members: Slides by the name of their part.
        suffixes: Endings of a slide's outputs; the first carries the digest. Of an output
            with several endings, one file is enough.
        further: Ending of one more output, of slides that have one.

    Returns:
        Outputs that are damaged, and tables of parts that have some outputs but not all.
    """
    refreshed = Refreshed([], [])
    # Tiles of slides that were streamed have no tables, and need none.
    if not (folder / TABLES).is_dir():
        return refreshed
    tables = _times(folder / TABLES)
    outputs = _times(folder)
    for part, slides in members.items():
        table = folder / TABLES / f"{part}.csv"
        written = tables.get(table.name)
        # Snakemake makes no table again that its later results do not lack.
        if written is None:
            if any(_time_of(slide, suffixes[0], outputs) != LOST for slide in slides):
                refreshed.incomplete.append(table)
            continue
        endings = {
            slide: (*suffixes, further[slide]) if slide in further else suffixes for slide in slides
        }
        times = {
            slide: [_time_of(slide, ending, outputs) for ending in of_slide]
            for slide, of_slide in endings.items()
        }
        # A folder that cannot be written to is not run in either.
        with suppress(OSError):
            if any(LOST in of_slide for of_slide in times.values()):
                table.unlink()
                if any(of_slide[0] != LOST for of_slide in times.values()):
                    refreshed.incomplete.append(table)
                continue
            replaced = {
                slide: folder / f"{slide}{suffixes[0]}"
                for slide, of_slide in times.items()
                if max(of_slide) > written
            }
            if damaged := _damaged(list(replaced.values())):
                table.unlink()
                refreshed.damaged.extend(damaged)
                refreshed.incomplete.append(table)
            elif replaced:
                _take_over(table, replaced)
    return refreshed


def _damaged(paths: Sequence[Path]) -> list[Path]:
    """Files of these that are not as they were written."""
    if not paths:
        return []
    # Here, since it imports HDF5, which a plan mostly does without.
    from mil.io.whole import is_whole

    # Of a folder that was copied all files are new: reading them could take hours.
    content = len(paths) <= MOST_READ
    return [path for path in paths if not is_whole(path, content=content)]


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
