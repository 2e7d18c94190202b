"""The tile sheet of a slide: the tiles at either end of its maps, as the encoder saw them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image

from mil.errors import MilError, ReadingError
from mil.heatmap.legend import round_length
from mil.heatmap.page import DOTS_PER_INCH, Page, Place, points
from mil.heatmap.render import draw_message
from mil.io.atomic import atomic_path
from mil.io.bags import BagHeader, BagPositions
from mil.io.digests import statements
from mil.io.scores import HeadScores, MapKind
from mil.io.tiles import read_tiles
from mil.statistics.text import column_title
from mil.trained.record import Trained
from mil.trained.tile_maps import TITLES, TileMap, tile_map
from mil.trained.top_tiles import extreme_tiles

ENDING = ".tiles.jpg"
# Maps that the rows are ranked by; the numbers of the others stand below each tile.
RANKED: tuple[MapKind, ...] = ("attention", "rollout", "effect")
SHOWN: tuple[MapKind, ...] = ("attention", "rollout", "effect", "alone")
# Larger tiles are shown smaller, pixels.
LARGEST_SHOWN_PX = 512
# Width that the numbers below a tile need, and distance between tiles, pixels.
LEAST_CELL_PX = 190
GAP_PX = 8
EDGE_PX = 14
# Pixels of a line of text for each point of its size, and pixels of the space above a row.
LINE_PX_PER_POINT = 1.9
ROW_GAP_PX = 16
TITLE_POINTS = 10.0
HEADING_POINTS = 9.0
CAPTION_POINTS = 7.5
# Width of a letter over its size, even if most are capitals.
LETTER_WIDTH = 0.72
BAR_POINTS = 3.0
UNREADABLE = (205, 205, 205)
GREY = "#777777"
# The scale bar is at most so long.
LONGEST_BAR_PX = 150
FEWEST_CELLS = 3


class Row(NamedTuple):
    """A row of the sheet: a heading and tiles in order."""

    kind: MapKind
    heading: str
    numbers: Int[np.ndarray, " chosen"]


def sheet_path(picture: Path) -> Path:
    """File of the tile sheet that lies beside a heatmap."""
    return picture.with_suffix(ENDING)


def draw_sheet(
    bag: BagPositions,
    records: Sequence[Trained],
    scores: Sequence[HeadScores],
    out: Path,
    *,
    tiles: Path | None,
    slide: Path,
    per_row: int,
    title: str,
    made_from: str = "",
) -> str:
    """Draw the tiles at either end of attention and of effect, mean over the heads.

    Each tile is read once. Where the slide cannot be read, or is not that of the bag,
    the sheet holds the reason in place of tiles.

    Args:
        bag: Positions of the tiles.
        records: Records of the heads that take part.
        scores: Scores by each of them, read with their evidence.
        out: JPEG to write.
        tiles: Tiles file, or None for an imported bag.
        slide: Slide file.
        per_row: Number of tiles in a row.
        title: Title of the sheet.
        made_from: Digest of what the sheet depends on; see `mil.io.provenance`.

    Returns:
        An addition to the line about the slide: why there are no tiles; mostly empty.
    """
    # Most jobs find their sheets current, and the slide libraries take a tenth of a second.
    from mil.io.tile_images import footprints_of_bag, read_tile_images

    maps = [tile_map(kind, records, scores) for kind in SHOWN]
    known = {one.kind: one for one in maps if one is not None}
    rows = list(rows_of(known, per_row))
    try:
        geometry = None if tiles is None else read_tiles(tiles).geometry
        footprints = footprints_of_bag(bag, geometry)
        chosen = np.concatenate([row.numbers for row in rows])
        images = {
            image.number: image.pixels for image in read_tile_images(slide, footprints, chosen)
        }
    # It may be read with the next run: no sheet, so that one is missing then.
    except ReadingError as error:
        return f"; no tile sheet: {error}"
    # The picture of the slide is drawn all the same.
    except MilError as error:
        _draw_reason(out, title, f"No tiles: {error}", made_from)
        return f"; no tile sheet: {error}"
    size_px = min(footprints.tile_px, LARGEST_SHOWN_PX)
    sheet = Sheet(title, footprints.tile_px, footprints.mpp, size_px, per_row, rows, len(known))
    for row in rows:
        sheet.begin_row(row.heading)
        for column, number in enumerate(row.numbers.tolist()):
            x, y = footprints.corners[number].tolist()
            sheet.show(column, images[number])
            sheet.write_numbers(column, f"{column + 1}   ({x}, {y})", _numbers(known, number), row)
        sheet.end_row()
    with atomic_path(out) as scratch:
        sheet.page.save_photo(scratch, statements(made_from))
    return ""


def draw_sheet_of_state(out: Path, bag: BagHeader, *, made_from: str = "") -> None:
    """Draw the state of a slide without tiles, and its reason, in place of a tile sheet."""
    _draw_reason(out, f"{bag.slide}   {bag.state}", bag.reason or "No tiles.", made_from)


def _draw_reason(out: Path, title: str, reason: str, made_from: str) -> None:
    with atomic_path(out) as scratch:
        draw_message(scratch, title, reason, about=statements(made_from), as_photo=True)


def rows_of(maps: dict[MapKind, TileMap], per_row: int) -> Iterable[Row]:
    """Both ends of each map that rows are ranked by; an end without tiles has no row."""
    for kind in RANKED:
        if kind not in maps:
            continue
        values = maps[kind].values
        top, bottom = extreme_tiles(values, per_row)
        for numbers, is_top in ((top, True), (bottom, False)):
            if len(numbers):
                heading = _heading(maps[kind], values[numbers], is_top=is_top)
                yield Row(kind, heading, numbers)


def _heading(ranked: TileMap, shown: np.ndarray, *, is_top: bool) -> str:
    if not ranked.is_signed:
        share = f"{len(shown)} of {len(ranked.values)} tiles have {shown.sum():.1%} of it"
        return f"{'highest' if is_top else 'lowest'} {TITLES[ranked.kind]}: {share}"
    column = column_title(ranked.column)
    # Where all tiles speak for the prediction, those at the lower end do so least.
    raises = shown[0] > 0
    verb = "raise" if raises else "lower"
    degree = "most" if raises == is_top else "least"
    return f"effect, {ranked.unit}: tiles that {verb} {column} {degree}"


def _numbers(maps: dict[MapKind, TileMap], number: int) -> dict[MapKind, str]:
    """The numbers below a tile, by kind of map."""
    lines: dict[MapKind, str] = {}
    for kind, one in maps.items():
        value = float(one.values[number])
        # Of a large bag every share is small: multiples of the mean can be compared.
        multiple = f"{value * len(one.values):.3g} × uniform"
        lines[kind] = f"{kind} {_signed(value)}" if one.is_signed else f"{kind} {multiple}"
    return lines


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")


class Sheet:
    """A page of tiles, filled row by row."""

    def __init__(
        self,
        title: str,
        tile_px: int,
        mpp: float,
        size_px: int,
        per_row: int,
        rows: Sequence[Row],
        num_kinds: int,
    ) -> None:
        self._size_px = size_px
        self._cell_px = max(size_px, LEAST_CELL_PX) + GAP_PX
        longest = max(len(row.numbers) for row in rows)
        width = 2 * EDGE_PX + max(min(per_row, longest), FEWEST_CELLS) * self._cell_px
        title_lines = _wrapped(title, width, TITLE_POINTS)
        about_lines = _wrapped(_about(tile_px, size_px, mpp), width, CAPTION_POINTS)
        headings = [len(_wrapped(row.heading, width, HEADING_POINTS)) for row in rows]
        self._captions_px = (num_kinds + 1) * _line_px(CAPTION_POINTS)
        top = EDGE_PX + len(title_lines) * _line_px(TITLE_POINTS)
        above = top + (len(about_lines) + 1) * _line_px(CAPTION_POINTS)
        row_px = ROW_GAP_PX + size_px + self._captions_px
        height = above + len(rows) * row_px + sum(headings) * _line_px(HEADING_POINTS) + EDGE_PX
        self._width = width
        self.page = Page(width / DOTS_PER_INCH, height / DOTS_PER_INCH)
        self._write(title_lines, EDGE_PX, TITLE_POINTS)
        self._write(about_lines, top, CAPTION_POINTS)
        self._draw_bar(above - _line_px(CAPTION_POINTS) / 2, mpp * tile_px / size_px)
        self._y: int = above

    def _write(
        self,
        lines: Sequence[str],
        y: float | int,
        size: float,
        x: int = EDGE_PX,
        colour: str = "black",
    ) -> None:
        for number, line in enumerate(lines):
            self.page.write((x, y + number * _line_px(size)), line, size, colour=colour)

    def _draw_bar(self, y: float, um_per_px: float) -> None:
        """Draw a bar of the longest round length that fits, with its length beside it."""
        if um_per_px <= 0:
            return
        length, label = round_length(LONGEST_BAR_PX * um_per_px)
        right = EDGE_PX + length / um_per_px
        self.page.line((EDGE_PX, y), (right, y), BAR_POINTS)
        self.page.write((right + GAP_PX, y), label, CAPTION_POINTS, anchor="lm")

    def begin_row(self, heading: str) -> None:
        """Write the heading of a row."""
        self._y += ROW_GAP_PX
        lines = _wrapped(heading, self._width, HEADING_POINTS)
        self._write(lines, self._y, HEADING_POINTS)
        self._y += len(lines) * _line_px(HEADING_POINTS)

    def show(self, column: int, pixels: np.ndarray | None) -> None:
        """Show a tile, at its own resolution unless it is larger than the sheet allows."""
        size = self._size_px
        if pixels is None:
            image = Image.new("RGB", (size, size), UNREADABLE)
        else:
            image = Image.fromarray(pixels)
        inches = size / DOTS_PER_INCH
        left = (EDGE_PX + column * self._cell_px) / DOTS_PER_INCH
        self.page.show(image, Place(left, self._y / DOTS_PER_INCH, inches, inches))
        if pixels is None:
            middle = EDGE_PX + column * self._cell_px + size / 2, self._y + size / 2
            self.page.write(middle, "cannot be read", CAPTION_POINTS, anchor="mm")

    def write_numbers(self, column: int, place: str, numbers: dict[MapKind, str], row: Row) -> None:
        """Write rank, place and numbers of a tile below it, that of its row in black."""
        x = EDGE_PX + column * self._cell_px
        y = self._y + self._size_px + points(2.0)
        self._write([place], y, CAPTION_POINTS, x)
        for line, (kind, text) in enumerate(numbers.items(), 1):
            colour = "black" if kind == row.kind else GREY
            self._write([text], y + line * _line_px(CAPTION_POINTS), CAPTION_POINTS, x, colour)

    def end_row(self) -> None:
        """Go on below the row."""
        self._y += self._size_px + self._captions_px


def _about(tile_px: int, size_px: int, mpp: float) -> str:
    resolution = f"{mpp:.3g} µm/px" if mpp else "size of a pixel not known"
    shown = "" if size_px == tile_px else f", shown at {size_px} px"
    return (
        f"tiles as the encoder saw them: {tile_px} px, {resolution}{shown}; below: rank, (x, y) of "
        "the top left corner in level-0 pixels"
    )


def _line_px(size: float) -> int:
    return round(size * LINE_PX_PER_POINT)


def _wrapped(text: str, width_px: int, size: float) -> list[str]:
    return wrap(text, max(20, int((width_px - 2 * EDGE_PX) / (points(size) * LETTER_WIDTH))))
