"""Pixel size of level 0, which most tools' files lack: from the user, a table, or the slides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mil.errors import DatasetError, SlideError
from mil.interop.external import FeatureFile
from mil.io.slides import SlideReader
from mil.io.slides.resolution import PLAUSIBLE_MPP
from mil.io.tables.columns import need_column
from mil.io.tables.faults import Faults
from mil.io.tables.matching import match
from mil.io.tables.scan import SlideFile, find_slides
from mil.io.tables.spreadsheet import Sheet, read_sheet
from mil.progress import progress
from mil.text import number_in

# Relative difference from the nominal magnification above which the user is told:
# scanners at "20x" or "40x" differ from 0.5 and 0.25 µm by a few percent.
NOMINAL_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class PixelSizeOptions:
    """Sources of the pixel size: options of `mil bags import`, the first given counts.

    Attributes:
        mpp: micrometres per pixel of level 0, for all slides.
        table: table with a column of slides and a column `mpp`.
        slides_dir: folder of the slides, whose files are asked.
        slide_column: column of slides in the table, if it has one of that name.
    """

    mpp: float | None = None
    table: Path | None = None
    slides_dir: Path | None = None
    slide_column: str | None = None


@dataclass(frozen=True)
class PixelSizes:
    """Micrometres per pixel of level 0, for all slides or by slide.

    Attributes:
        shared_mpp: pixel size of all slides; None: see `by_slide`.
        by_slide: pixel size by slide.
        unknown: slides that have none, each with the reason.
    """

    shared_mpp: float | None = None
    by_slide: Mapping[str, float] = field(default_factory=dict)
    unknown: Sequence[str] = ()

    def mpp_of(self, slide: str) -> float | None:
        """Micrometres per pixel of level 0 of one slide; None: not known."""
        return self.shared_mpp or self.by_slide.get(slide)


def pixel_sizes(files: Sequence[FeatureFile], root: Path, options: PixelSizeOptions) -> PixelSizes:
    """Pixel sizes of all slides, by the first source that is given.

    Args:
        files: the feature files.
        root: folder of the features; tables may name slides by their path in it.
        options: the sources.

    Raises:
        DatasetError: the table or the folder cannot be used.
    """
    if options.mpp is not None:
        return PixelSizes(options.mpp)
    if options.table is not None:
        sheet = read_sheet(options.table, [options.slide_column, "mpp"])
        return _from_table(sheet, files, root, options.slide_column)
    if options.slides_dir is not None:
        return _from_slides(options.slides_dir, files)
    return PixelSizes()


def slides_of(files: Sequence[FeatureFile], root: Path) -> list[SlideFile]:
    """Feature files in the form that `mil.io.tables.matching` matches with a table.

    Args:
        files: the feature files.
        root: folder of the features; a table may name a slide by its path in it.
    """
    paths = [_path_in_root(file, root) for file in files]
    return [
        SlideFile(path, (path,), readable=True, slide=file.slide)
        for path, file in zip(paths, files, strict=True)
    ]


def _path_in_root(file: FeatureFile, root: Path) -> PurePosixPath:
    # A group of ACMIL's file has no path of its own; its name stands for one.
    if file.group:
        return PurePosixPath(file.group)
    if file.path == root or not file.path.is_relative_to(root):
        return PurePosixPath(file.path.name)
    return PurePosixPath(file.path.relative_to(root).as_posix())


def _from_table(
    sheet: Sheet, files: Sequence[FeatureFile], root: Path, user_column: str | None
) -> PixelSizes:
    column = next((name for name in sheet.header if name.lower() == "mpp"), None)
    if column is None:
        raise DatasetError(
            f"{sheet.path}: no column 'mpp'; the table has: {', '.join(sheet.header)}"
        )
    # The option names a column of the labels too, which may be another table.
    known = user_column if user_column in sheet.header else None
    slide_column = need_column(sheet, "slide", known)
    # Rows without a pixel size are left out by `match`, as rows without a label are.
    faults = Faults(sheet.path)
    matches = match(sheet, slides_of(files, root), slide_column, column, faults)
    faults.check()
    by_slide = {
        matched.slide: _parse_mpp(cells[column], f"{sheet.path}: slide {matched.slide}")
        for matched, cells in matches.pairs
    }
    return PixelSizes(None, by_slide)


def _parse_mpp(text: str, location: str) -> float:
    value = number_in(text)
    smallest, largest = PLAUSIBLE_MPP
    if value is None or not smallest <= value <= largest:
        raise DatasetError(
            f"{location}: mpp {text!r} is not a number of micrometres per pixel, such as 0.25"
        )
    return value


def _from_slides(folder: Path, files: Sequence[FeatureFile]) -> PixelSizes:
    paths = {entry.slide.lower(): folder / entry.path for entry in find_slides(folder)}
    by_slide = {}
    unknown = []
    with progress("reading pixel sizes", len(files), "slides") as advance:
        for file in files:
            path = paths.get(file.slide.lower())
            if path is None:
                unknown.append(f"{file.slide} (no such slide)")
            else:
                # A slide that cannot say its pixel size does not stop the import.
                try:
                    with SlideReader(path) as reader:
                        by_slide[file.slide] = reader.resolution().mpp
                except SlideError as error:
                    unknown.append(f"{file.slide} ({error.reason})")
            advance(1)
    return PixelSizes(None, by_slide, unknown)
