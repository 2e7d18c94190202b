"""Everything that the page asks of a slide, from a study that was read once."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mil.errors import ConfigError, MilError
from mil.io.scores import MAP_KINDS
from mil.statistics.text import column_title
from mil.tasks import unfitted_task
from mil.trained.tile_maps import TITLES
from mil.view.cache import Recent
from mil.view.catalogue import SlideEntry, slides_of
from mil.view.colours import names_of
from mil.view.frames import SlideFrame, frame_of, outlines_of, size_of_image
from mil.view.layers import Layers
from mil.view.maps import SlideScores, item_of, read_slide
from mil.view.pixels import Slides, cut_from_overview, thumbnail
from mil.view.pyramid import TILE_PX, Box, Frame
from mil.view.scaling import SCALES
from mil.view.study import Study

# Slides whose frames are kept.
MOST_SLIDES = 16
# Score files that are kept, each of one slide by the heads of one recipe.
MOST_SCORES = 12


class _Slide(NamedTuple):
    shown: SlideFrame
    file: Path | None
    notes: Sequence[str]


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
        self._scores: Recent[SlideScores] = Recent(MOST_SCORES)
        self.layers = Layers(self._frame, self.scores)
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
            "kinds": [{"name": kind, "title": TITLES[kind]} for kind in MAP_KINDS],
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
        """Frame, outlines and notes of a slide."""
        slide = self._slide(number)
        entry = self.entries[number]
        frame = slide.shown.frame
        outlines = outlines_of(self.study, entry.slide, slide.shown)
        return {
            "slide": entry.slide,
            "frame": None if frame is None else self._frame_json(frame),
            "has_pixels": slide.file is not None,
            "has_overview": slide.shown.overview is not None or slide.file is not None,
            "tissue": outlines.tissue,
            "annotated": outlines.annotated,
            "notes": list(dict.fromkeys([*slide.notes, *outlines.notes])),
        }

    def _frame_json(self, frame: Frame) -> dict[str, Any]:
        return {**frame._asdict(), "max_zoom": frame.max_zoom}

    def head_json(self, number: int, head: int) -> dict[str, Any]:
        """Maps, predictions and trainings of a head of a slide, and notes."""
        scores = self.scores(number, head)
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

    def scores(self, number: int, head: int) -> SlideScores:
        """Scores of a slide by the heads of one recipe.

        Raises:
            ConfigError: There is no such slide or head.
        """
        entry = self.entry(number)
        folder = item_of(self.study.heads, head, "head")
        with self._reading:
            return self._scores.get(
                (number, head), lambda: read_slide(self.study, folder, entry.slide)
            )

    def _read(self, entry: SlideEntry) -> _Slide:
        study = self.study
        shown = frame_of(study, entry.slide)
        notes = [*shown.notes]
        if entry.state != "ok":
            notes.insert(0, f"{entry.state}: {entry.reason}".removesuffix(": "))
        file = study.slide_file(entry.slide) if shown.is_level0 else None
        if file is None:
            notes.append("The slide's file is not on this machine: its overview is shown.")
            return _Slide(shown, None, notes)
        try:
            frame = self.slides.frame(file, shown.scene, shown.size_px)
        except MilError as error:
            notes.append(f"The slide's file is not used: {error}")
            return _Slide(shown, None, notes)
        if shown.overview is None:
            # Its own overview will be shown, which is of the scanned part.
            unit_um = frame.unit_um if shown.frame is None else shown.frame.unit_um
            shown = replace(shown, frame=frame._replace(unit_um=unit_um))
        return _Slide(shown, file, notes)

    def _frame(self, number: int) -> Frame | None:
        return self._slide(number).shown.frame

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
        scores = self.scores(number, head)
        if scores.places is None or slide.shown.frame is None:
            return None
        item_of(scores.places.corners, tile, "tile")
        x, y = map(float, scores.places.corners[tile])
        side = scores.places.side
        if slide.file is not None:
            size_px = _tile_px(scores)
            box = Box(x, y, side, side)
            return self.slides.region(slide.file, slide.shown.scene, box, size_px)
        overview = slide.shown.overview
        size = None if overview is None else size_of_image(overview)
        if overview is None or size is None:
            return None
        frame = slide.shown.frame
        scale = frame.width / size[0]
        return cut_from_overview(
            overview, (x - frame.left) / scale, (y - frame.top) / scale, side / scale
        )


def _interest(scores: SlideScores) -> int:
    if not scores.records:
        return 0
    return scores.columns.index(scores.records[0].task.column_of_interest)


def _tile_px(scores: SlideScores) -> int:
    """Side of a tile as the encoder saw it, of the name of the tiling; else 224 pixels."""
    tiling = scores.records[0].tiling if scores.records else ""
    digits = tiling.partition("px")[0]
    return min(int(digits), 1024) if digits.isdecimal() else 224
