"""Score layers of the slides that are shown: images, colour bars, numbers of tiles."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mil.io.scores import MapKind
from mil.statistics.attention import ranks_note
from mil.statistics.text import column_title
from mil.trained.tile_maps import TITLES, TileMap
from mil.view.cache import Recent
from mil.view.catalogue import short
from mil.view.colours import as_hex, colours_named
from mil.view.maps import Choice, SlideScores
from mil.view.paint import Places, layer_png, painted_png
from mil.view.pyramid import Frame
from mil.view.scaling import Scaled, scaled

# Maps that are kept.
MOST_MAPS = 48
# Tiles of the most and of the least value that are listed.
RANKED = 12
# Every sixth of the colours is enough for the colour bar of a page.
BAR_STEP = 6


class LayerChoice(NamedTuple):
    """A score layer: the map, its scale and its colours."""

    head: int
    choice: Choice
    scale: str = "percentile"
    colours: str = ""


class _Layer(NamedTuple):
    tile_map: TileMap
    scaled: Scaled
    places: Places | None


class Layers:
    """Score layers of a study. Threads may share them.

    Args:
        frame_of: Frame of a slide, by its number.
        scores_of: Scores of a slide by a head, by their numbers.
    """

    def __init__(
        self,
        frame_of: Callable[[int], Frame | None],
        scores_of: Callable[[int, int], SlideScores],
    ) -> None:
        self._frame_of = frame_of
        self._scores_of = scores_of
        self._layers: Recent[_Layer] = Recent(MOST_MAPS)

    def tile(self, number: int, layer: LayerChoice, address: tuple[int, int, int]) -> bytes | None:
        """Image tile of a score layer; None where it does not reach or has no positions."""
        frame = self._frame_of(number)
        made = self._layer(number, layer)
        if frame is None or made.places is None or not frame.holds(*address):
            return None
        colours = colours_named(layer.colours, signed=made.tile_map.is_signed)
        return layer_png(made.scaled.shares, colours, made.places, frame, address)

    def image(self, number: int, layer: LayerChoice, longest_px: int) -> bytes | None:
        """The whole score layer of a slide as one image; None: there are no positions."""
        frame = self._frame_of(number)
        made = self._layer(number, layer)
        if frame is None or made.places is None:
            return None
        colours = colours_named(layer.colours, signed=made.tile_map.is_signed)
        scale = max(frame.width, frame.height) / longest_px
        window = 0, 0, max(1, round(frame.width / scale)), max(1, round(frame.height / scale))
        return painted_png(made.scaled.shares, colours, made.places, frame, scale, window)

    def kinds(self, number: int, head: int) -> list[MapKind]:
        """Kinds of map that a head has of a slide."""
        return self._scores_of(number, head).kinds

    def values(self, number: int, head: int) -> dict[str, Any] | None:
        """Places of all tiles and their values on each map; None: there are no positions."""
        scores = self._scores_of(number, head)
        if scores.places is None or not scores.scores:
            return None
        values: dict[str, list[float | None]] = {}
        for kind in scores.kinds:
            tile_map = self._layer(number, LayerChoice(head, Choice(kind))).tile_map
            name = f"{TITLES[kind]}, {tile_map.unit}"
            values[name] = [short(value) for value in tile_map.values.tolist()]
        x, y = scores.places.corners.T.tolist()
        return {"side": float(scores.places.side), "x": x, "y": y, "values": values}

    def describe(self, number: int, layer: LayerChoice) -> dict[str, Any]:
        """Colour bar, and tiles of the most and the least value, of a score layer."""
        made = self._layer(number, layer)
        values = made.tile_map.values
        colours = colours_named(layer.colours, signed=made.tile_map.is_signed)
        order = np.argsort(-values, kind="stable")
        # A slide of few tiles shows each of them once.
        num_top = min(RANKED, -(-len(order) // 2))
        column = made.tile_map.column
        return {
            "low": short(made.scaled.low),
            "high": short(made.scaled.high),
            "label": made.scaled.label,
            "about": column_title(column) if column else "",
            "colours": as_hex(colours[::6]),
            "note": "" if made.tile_map.is_signed else ranks_note(values),
            "top": [self._tile_json(made, tile) for tile in order[:num_top]],
            "bottom": [self._tile_json(made, tile) for tile in order[num_top:][::-1][:RANKED]],
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
        scores = self._scores_of(number, layer.head)
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
            made = self._layer(number, layer._replace(choice=choice, scale="percentile"))
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
        scores = self._scores_of(number, layer.head)

        def make() -> _Layer:
            tile_map = scores.map_of(layer.choice)
            return _Layer(tile_map, scaled(tile_map, layer.scale), scores.places)

        return self._layers.get((number, layer._replace(colours="")), make)


def _values_of(made: _Layer, tile: int) -> list[dict[str, Any]]:
    """Value of a tile on a map that is scaled by percentile."""
    tile_map = made.tile_map
    value = float(tile_map.values[tile])
    name = TITLES[tile_map.kind]
    if tile_map.is_signed:
        return [{"name": f"{name} ({tile_map.unit})", "value": short(value)}]
    return [
        {"name": f"{name}, {tile_map.unit}", "value": short(value)},
        {"name": f"{name}, times uniform", "value": short(value * len(tile_map.values))},
        {"name": f"{name}, percentile", "value": short(float(made.scaled.shares[tile]) * 100)},
    ]
