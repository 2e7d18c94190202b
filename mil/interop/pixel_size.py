"""How large a pixel of level 0 is, which most tools' files do not say: from the user, a table, or the slides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mil.errors import DatasetError, SlideError
from mil.interop.external import Source
from mil.io.slides import SlideReader
from mil.io.slides.resolution import PLAUSIBLE_MPP
from mil.io.tables.matching import match
from mil.io.tables.scan import Found, find_slides
from mil.io.tables.spreadsheet import Sheet, need_column, read_sheet
from mil.progress import progress

NOMINAL = 0.05  # a pixel size that differs more from the nominal magnification is worth a word


@dataclass(frozen=True)
class PixelSizes:
    """Micrometres per pixel of level 0: of all slides, or slide by slide; and why some have none."""

    of_all: float | None = None
    by_slide: Mapping[str, float] = field(default_factory=dict)
    unknown: Sequence[str] = ()

    def of(self, slide: str) -> float | None:
        """Of one slide; None: not known."""
        return self.of_all or self.by_slide.get(slide)


def pixel_sizes(
    sources: Sequence[Source],
    root: Path,
    *,
    mpp: float | None,
    table: Path | None,
    slides_dir: Path | None,
) -> PixelSizes:
    """The first of these that is given: one for all, a table, the slides themselves.

    Args:
        sources: the slides.
        root: folder of the features; tables may name slides by their path in it.
        mpp: of all slides.
        table: with a column of slides and a column `mpp`.
        slides_dir: folder of the slides.

    Raises:
        DatasetError: the table or the folder cannot be used.
    """
    if mpp is not None:
        return PixelSizes(mpp)
    if table is not None:
        return _from_table(read_sheet(table), sources, root)
    return _from_slides(slides_dir, sources) if slides_dir is not None else PixelSizes()


def as_found(sources: Sequence[Source], root: Path) -> list[Found]:
    """The sources as `mil.io.tables.matching` wants slides: by their place in the folder and by their id."""
    places = [_place(source, root) for source in sources]
    return [
        Found(at, (at,), readable=True, slide=each.slide)
        for at, each in zip(places, sources, strict=True)
    ]


def _place(source: Source, root: Path) -> PurePosixPath:
    inside = not source.member and source.path.is_relative_to(root) and source.path != root
    return PurePosixPath(source.path.relative_to(root).as_posix() if inside else source.slide)


def _from_table(sheet: Sheet, sources: Sequence[Source], root: Path) -> PixelSizes:
    column = next((name for name in sheet.header if name.lower() == "mpp"), None)
    if column is None:
        raise DatasetError(
            f"{sheet.path}: no column 'mpp'; the table has: {', '.join(sheet.header)}"
        )
    matches = match(sheet, as_found(sources, root), need_column(sheet, "slide", None), column)
    found = {
        each.slide: _positive(row[column], f"{sheet.path}: slide {each.slide}")
        for each, row in matches.pairs
    }
    return PixelSizes(None, found)


def _positive(text: str, where: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = 0.0
    if not PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1]:
        raise DatasetError(
            f"{where}: mpp {text!r} is not a number of micrometres per pixel, such as 0.25"
        )
    return value


def _from_slides(folder: Path, sources: Sequence[Source]) -> PixelSizes:
    paths = {found.slide.lower(): folder / found.path for found in find_slides(folder)}
    sizes = {}
    unknown = []
    with progress("reading pixel sizes", len(sources), "slides") as advance:
        for source in sources:
            path = paths.get(source.slide.lower())
            try:
                if path is None:
                    unknown.append(f"{source.slide} (no such slide)")
                else:
                    with SlideReader(path) as reader:
                        sizes[source.slide] = reader.resolution().mpp
            except SlideError as error:
                unknown.append(f"{source.slide} ({error.reason})")
            advance(1)
    return PixelSizes(None, sizes, unknown)
