"""Everything that the page asks of a slide, from a study that was read once."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mil.errors import ConfigError, MilError
from mil.statistics.attention import ranks_note
from mil.statistics.text import column_title
from mil.tasks import unfitted_task
from mil.view.cache import Recent
from mil.view.catalogue import SlideEntry, short, slides_of
from mil.view.colours import as_hex, colours_named, names_of
from mil.view.frames import SlideFrame, frame_of, outlines_of
from mil.view.maps import KINDS, Choice, SlideScores, read_slide
from mil.view.paint import Places, layer_png, painted_png
from mil.view.pixels import Slides, cut_from_overview, thumbnail
from mil.view.pyramid import TILE_PX, Box, Frame
from mil.view.scaling import SCALES, Scaled, names_of_kinds, scaled
from mil.view.study import Study
from mil.trained.tile_maps import TileMap

# Slides whose scores are kept.
MOST_SLIDES = 6
MOST_MAPS = 48
# Tiles of the most and of the least value that are listed.
RANKED = 12
Value = TypeVar("Value")


class LayerChoice(NamedTuple):
    """A score layer: the map, its scale and its colours."""

    head: int
    choice: Choice
    scale: str = "percentile"
    colours: str = ""


class _Slide(NamedTuple):
    shown: SlideFrame
    scores: Sequence[SlideScores]
    file: Path | None
    notes: Sequence[str]


class _Layer(NamedTuple):
    tile_map: TileMap
    scaled: Scaled
    places: Places | None


class Shown:
    """A study as the page shows it. Threads may share it.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.entries: Sequence[SlideEntry] = slides_of(study)
        self.slides = Slides()
        self._slides: Recent[_Slide] = Recent(MOST_SLIDES)
        self._layers: Recent[_Layer] = Recent(MOST_MAPS)
        # One reader of HDF5 at a time: its files are probed in a child process, which must
        # not be forked while another thread is inside the library.
        self._reading = threading.Lock()

    def close(self) -> None:
        """Close all slides."""
        self.slides.close()

    def describe(self) -> dict[str, Any]:
        """Title, heads, slides and switches: what the page needs before any slide."""
        return {
            "title": self.study.title,
            "heads": [self._head(number) for number in range(len(self.study.heads))],
            "slides": [entry.to_json() for entry in self.entries],
            "kinds": [{"name": kind, "title": names_of_kinds()[kind]} for kind in KINDS],
            "scales": list(SCALES),
            "colours": {
                "attention": names_of(signed=False),
                "signed": names_of(signed=True),
            },
            "notes": list(self.study.notes),
            "tile_px": TILE_PX,
        }

    def _head(self, number: int) -> dict[str, Any]:
        head = self.study.heads[number]
        metrics = head.metrics
        column = ""
        if metrics is not None:
            task = unfitted_task(metrics.task, metrics.classes, metrics.positive)
            column = column_title(task.column_of_interest)
        return {
            "title": f"{head.recipe} · {head.encoder}",
            "tiling": head.tiling,
            "column": column,
        }

    def slide_json(self, number: int) -> dict[str, Any]:
        """Frame, heads, outlines and notes of a slide."""
        slide = self._slide(number)
        entry = self.entries[number]
        frame = slide.shown.frame
        positive = next((one.records[0].positive for one in slide.scores if one.records), "")
        outlines = outlines_of(self.study, entry.slide, slide.shown, positive)
        return {
            "slide": entry.slide,
            "frame": None if frame is None else self._frame_json(frame),
            "has_pixels": slide.file is not None,
            "has_overview": slide.shown.overview is not None or slide.file is not None,
            "heads": [self._head_json(number, one) for number, one in enumerate(slide.scores)],
            "tissue": outlines.tissue,
            "annotated": outlines.annotated,
            "notes": list(dict.fromkeys([*slide.notes, *outlines.notes])),
        }

    def _frame_json(self, frame: Frame) -> dict[str, Any]:
        return {**frame._asdict(), "max_zoom": frame.max_zoom}

    def _head_json(self, number: int, scores: SlideScores) -> dict[str, Any]:
        return {
            "kinds": scores.kinds,
            "columns": [column_title(column) for column in scores.columns],
            "interest": _interest(scores),
            "branches": scores.num_branches,
            "members": [
                {
                    "title": f"seed {record.seed}, fold {record.fold}",
                    "seen": index not in scores.unseen,
                }
                for index, record in enumerate(scores.records)
            ],
            "drawn": scores.places is not None and bool(scores.scores),
            "notes": list(scores.notes),
        }

    def _slide(self, number: int) -> _Slide:
        entry = self.entry(number)
        with self._reading:
            return self._slides.get(number, lambda: self._read(entry))

    def entry(self, number: int) -> SlideEntry:
        """Row of the list.

        Raises:
            ConfigError: There is no such row.
        """
        if not 0 <= number < len(self.entries):
            raise ConfigError(f"there is no slide number {number} in this study")
        return self.entries[number]

    def _read(self, entry: SlideEntry) -> _Slide:
        study = self.study
        scores = [read_slide(study, head, entry.slide) for head in study.heads]
        shown = frame_of(study, entry.slide, scores)
        notes = [*shown.notes]
        if entry.state != "ok":
            notes.insert(0, f"{entry.state}: {entry.reason}".removesuffix(": "))
        file = study.slide_file(entry.slide) if shown.is_level0 else None
        if file is None:
            notes.append("The slide's file is not on this machine: its overview is shown.")
        else:
            try:
                self.slides.check(file, shown.scene, shown.size_px)
            except MilError as error:
                notes.append(f"The slide's file is not used: {error}")
                file = None
        return _Slide(shown, scores, file, notes)

    def frame(self, number: int) -> Frame:
        """Frame of a slide.

        Raises:
            ConfigError: Nothing is known of the slide.
        """
        frame = self._slide(number).shown.frame
        if frame is None:
            raise ConfigError("the size of this slide is not known")
        return frame

    # Images

    def thumbnail(self, number: int) -> bytes | None:
        """A small picture of a slide, of its overview; None: it has none."""
        name = self.entry(number).slide
        paths = (
            self.study.tiles_path(tiling, name).with_suffix(".jpg") for tiling in self.study.tilings
        )
        # Not from the slide: a list of thousands must not open each.
        path = next((path for path in paths if path.is_file()), None)
        return None if path is None else thumbnail(path)

    def overview(self, number: int) -> bytes | None:
        """Overview of a slide, of its tiles file or of its own; None: there is none."""
        slide = self._slide(number)
        if slide.shown.overview is not None:
            return slide.shown.overview.read_bytes()
        return None if slide.file is None else self.slides.overview(slide.file, slide.shown.scene)

    def pixels(self, number: int, zoom: int, column: int, row: int) -> bytes | None:
        """Image tile of a slide; None where the slide is not there or does not reach."""
        slide = self._slide(number)
        frame = slide.shown.frame
        if slide.file is None or frame is None or not frame.holds(zoom, column, row):
            return None
        return self.slides.region(slide.file, slide.shown.scene, frame.box(zoom, column, row))

    def tile(self, number: int, head: int, tile: int) -> bytes | None:
        """One tile at its own resolution, of the overview where the slide is not there."""
        slide = self._slide(number)
        scores = _item(slide.scores, head, "head")
        if scores.places is None or slide.shown.frame is None:
            return None
        _item(scores.places.corners, tile, "tile")
        x, y = map(float, scores.places.corners[tile])
        side = scores.places.side
        if slide.file is not None:
            size_px = _tile_px(scores)
            box = Box(x, y, side, side)
            return self.slides.region(slide.file, slide.shown.scene, box, size_px)
        overview = slide.shown.overview
        if overview is None:
            return None
        frame = slide.shown.frame
        scale = frame.width / _width(overview)
        return cut_from_overview(
            overview, (x - frame.left) / scale, (y - frame.top) / scale, side / scale
        )

    # Score layers

    def layer(self, number: int, layer: LayerChoice, address: tuple[int, int, int]) -> bytes | None:
        """Image tile of a score layer; None where it does not reach or has no positions."""
        frame = self._slide(number).shown.frame
        made = self._layer(number, layer)
        if frame is None or made.places is None or not frame.holds(*address):
            return None
        colours = colours_named(layer.colours, signed=made.tile_map.is_signed)
        return layer_png(made.scaled.shares, colours, made.places, frame, address)

    def layer_image(self, number: int, layer: LayerChoice, longest_px: int) -> bytes | None:
        """The whole score layer of a slide as one image; None: there are no positions."""
        frame = self._slide(number).shown.frame
        made = self._layer(number, layer)
        if frame is None or made.places is None:
            return None
        colours = colours_named(layer.colours, signed=made.tile_map.is_signed)
        scale = max(frame.width, frame.height) / longest_px
        window = 0, 0, max(1, round(frame.width / scale)), max(1, round(frame.height / scale))
        return painted_png(made.scaled.shares, colours, made.places, frame, scale, window)

    def layer_json(self, number: int, layer: LayerChoice) -> dict[str, Any]:
        """Colour bar, and tiles of the most and the least value, of a score layer."""
        made = self._layer(number, layer)
        values = made.tile_map.values
        colours = colours_named(layer.colours, signed=made.tile_map.is_signed)
        order = np.argsort(-values, kind="stable")
        column = made.tile_map.column
        return {
            "low": short(made.scaled.low),
            "high": short(made.scaled.high),
            "label": made.scaled.label,
            "about": column_title(column) if column else "",
            "colours": as_hex(colours[::6]),
            "note": "" if made.tile_map.is_signed else ranks_note(values),
            "top": [self._tile_json(made, tile) for tile in order[:RANKED]],
            "bottom": [self._tile_json(made, tile) for tile in order[::-1][:RANKED]],
        }

    def _tile_json(self, made: _Layer, tile: int) -> dict[str, Any]:
        described: dict[str, Any] = {
            "tile": int(tile),
            "value": short(float(made.tile_map.values[tile])),
        }
        if made.places is not None:
            x, y = made.places.corners[tile]
            described |= {"x": float(x), "y": float(y), "side": float(made.places.side)}
        return described

    def at(self, number: int, layer: LayerChoice, x: float, y: float) -> dict[str, Any] | None:
        """The tile at a point with its value on every map of a head; None: there is none."""
        slide = self._slide(number)
        scores = _item(slide.scores, layer.head, "head")
        if scores.places is None or not scores.scores:
            return None
        hits = scores.places.at(x, y)
        if not len(hits):
            return None
        # Of overlapping tiles the one whose middle is nearest.
        middles = scores.places.corners[hits] + scores.places.side / 2
        tile = int(hits[np.square(middles - np.array((x, y))).sum(1).argmin()])
        values = []
        for kind in scores.kinds:
            choice = layer.choice._replace(kind=kind)
            if kind != "attention":
                choice = choice._replace(branch=None)
            made = self._layer(number, layer._replace(choice=choice))
            values += _values_of(made, tile)
        left, top = map(float, scores.places.corners[tile])
        return {
            "tile": tile,
            "x": left,
            "y": top,
            "side": float(scores.places.side),
            "values": values,
        }

    def _layer(self, number: int, layer: LayerChoice) -> _Layer:
        slide = self._slide(number)
        scores = _item(slide.scores, layer.head, "head")

        def make() -> _Layer:
            tile_map = scores.map_of(layer.choice)
            return _Layer(tile_map, scaled(tile_map, layer.scale), scores.places)

        return self._layers.get((number, layer._replace(colours="")), make)


def _values_of(made: _Layer, tile: int) -> list[dict[str, Any]]:
    tile_map = made.tile_map
    value = float(tile_map.values[tile])
    name = names_of_kinds()[tile_map.kind]
    if tile_map.is_signed:
        return [{"name": f"{name} ({tile_map.unit})", "value": short(value)}]
    ranks = scaled(tile_map, "percentile")
    return [
        {"name": f"{name}, {tile_map.unit}", "value": short(value)},
        {"name": f"{name}, times uniform", "value": short(value * len(tile_map.values))},
        {"name": f"{name}, percentile", "value": short(float(ranks.shares[tile]) * 100)},
    ]


def _interest(scores: SlideScores) -> int:
    if not scores.records:
        return 0
    return scores.columns.index(scores.records[0].task.column_of_interest)


def _item(items: Sequence[Value] | np.ndarray, number: int, noun: str) -> Value:
    if not 0 <= number < len(items):
        raise ConfigError(f"there is no {noun} {number} of this slide")
    return items[number]


def _tile_px(scores: SlideScores) -> int:
    """Side of a tile as the encoder saw it, of the name of the tiling; else 224 pixels."""
    tiling = scores.records[0].tiling if scores.records else ""
    digits = tiling.partition("px")[0]
    return min(int(digits), 1024) if digits.isdecimal() else 224


def _width(overview: Path) -> int:
    from PIL import Image

    with Image.open(overview) as image:
        return image.width
