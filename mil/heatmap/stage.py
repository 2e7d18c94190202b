"""Heads and a bag in; a picture, a QuPath layer and a table of tiles out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from shapely import MultiPolygon, box

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError, FormatError
from mil.heatmap.render import RELATIVE_TOP, Scale, draw, overlay, rings_of, scaled
from mil.io.annotations import feature, read_annotation, write_geojson
from mil.io.atomic import atomic_path
from mil.io.bags import Bag, read_bag
from mil.io.tables import read_csv, write_csv
from mil.io.tiles import read_tiles
from mil.trained import Trained, apply, check_fits, load_trained

COLUMNS = ("x", "y", "attention", "percentile", "relative")


def run(
    heads: Sequence[Path], bag_path: Path, tiles_path: Path, out: Path, *,
    folds: Path | None, annotation: Path | None, scale: Scale, geojson_frame: GeojsonFrame = "scanned",
) -> str:  # fmt: skip
    """Draw one slide's attention from cached features; no slide is read, nothing is embedded again.

    With several heads (seeds and folds of one recipe) the attention is their mean. Given `folds`, only heads that did
    not train on the slide take part, as long as there is one; if there is none, the title says so.

    Args:
        heads: folders of the heads.
        bag_path: the slide's bag.
        tiles_path: its tiles file; overview picture and tissue outline lie beside it.
        out: the PNG; `.geojson` and `.csv` go beside it.
        folds: folds.csv, or None.
        annotation: annotated regions to outline, or None.
        scale: see `mil.heatmap.render.scaled`.
        geojson_frame: what the annotation counts from, if it is GeoJSON; see `mil.config.datasets`.

    Returns:
        One line about what was drawn.
    """
    torch.set_num_threads(1)  # a bag takes milliseconds; starting threads would take longer
    bag, tiles = read_bag(bag_path), read_tiles(tiles_path)
    if bag.state != "ok":
        _draw_state(out, tiles_path.with_suffix(".jpg"), bag)
        return f"{bag.slide}: {bag.state}, nothing to draw"
    places = bag.places()
    if places is None:
        raise FormatError(f"{bag_path}: does not say where its tiles are, so their attention cannot be drawn")
    chosen, seen = _choose(heads, bag_path, bag, folds)
    applied = [apply(head, bag) for head, _ in chosen]
    weights, probabilities = (np.mean(values, axis=0) for values in zip(*applied, strict=True))
    trained = chosen[0][1]
    values = scaled(weights, scale)
    geometry = tiles.geometry
    origin = geometry.origin_x_level0_px, geometry.origin_y_level0_px
    overview = _overview(tiles_path.with_suffix(".jpg"))
    corners = (places[0] - origin) / geometry.overview_scale
    side = places[1] / geometry.overview_scale
    coloured = overlay(overview, corners, side, values, 100.0 if scale == "percentile" else RELATIVE_TOP)
    p = probabilities[trained.classes.index(trained.positive)]
    mean_of = f", mean of {len(chosen)} heads" if len(chosen) > 1 else ""
    note = ", seen in training" if seen else ""
    title = f"{bag.slide}   p({trained.positive}) = {p:.3f}   {trained.recipe_name}{mean_of}{note}"
    with atomic_path(out) as scratch:
        draw(
            scratch, overview, coloured, title=title, scale=scale,
            um_per_px=geometry.mpp_level0 * geometry.overview_scale,
            tissue=rings_of(_regions(tiles_path.with_suffix(".geojson"), origin), geometry.overview_scale, origin),
            annotated=rings_of(
                _regions(annotation, origin if geojson_frame == "scanned" else (0, 0)), geometry.overview_scale, origin
            ),
        )  # fmt: skip
    _write_layers(out, *places, weights, origin)
    return title


def _choose(
    heads: Sequence[Path], bag_path: Path, bag: Bag, folds: Path | None
) -> tuple[list[tuple[Any, Trained]], bool]:
    loaded = [load_trained(folder) for folder in heads]
    if not loaded:
        raise DatasetError("no head given; name at least one folder of a trained head")
    for _, trained in loaded:
        check_fits(trained, bag_path)
    if folds is None:
        return loaded, False
    split = {int(row["fold"]): row["split"] for row in read_csv(folds) if row["slide"] == bag.slide}
    unseen = [pair for pair in loaded if split.get(pair[1].fold) not in ("train", "val")]
    return unseen or loaded, not unseen


def _overview(picture: Path) -> Image.Image:
    try:
        return Image.open(picture).convert("RGB")
    except OSError as error:
        raise FormatError(f"{picture}: no overview picture ({error}); tile the slide again") from None


def _regions(annotation: Path | None, origin_px: tuple[int, int]) -> MultiPolygon:
    return read_annotation(annotation, origin_px) if annotation is not None else MultiPolygon()


def _draw_state(out: Path, picture: Path, bag: Bag) -> None:
    """A slide without attention still has its picture: what was seen of it, and why there is no more."""
    overview = _overview(picture)
    with atomic_path(out) as scratch:
        draw(scratch, overview, overview, title=f"{bag.slide}   {bag.state}: {bag.reason}", scale="percentile",
             um_per_px=0.0, tissue=[], annotated=[])  # fmt: skip
    write_geojson(out.with_suffix(".geojson"), [])
    write_csv(out.with_suffix(".csv"), [], COLUMNS)


def _write_layers(out: Path, coords: np.ndarray, side: float, weights: np.ndarray, origin_px: tuple[int, int]) -> None:
    ranks, multiples = (scaled(weights, scale) for scale in ("percentile", "relative"))
    rows = [
        {"x": int(x), "y": int(y), "attention": float(f"{a:.6g}"), "percentile": round(float(q), 2),
         "relative": float(f"{r:.6g}")}
        for (x, y), a, q, r in zip(coords, weights, ranks, multiples, strict=True)
    ]  # fmt: skip
    tiles = [
        feature(
            box(row["x"], row["y"], row["x"] + side, row["y"] + side, ccw=False),
            {"objectType": "tile", "measurements": {k: row[k] for k in COLUMNS[2:]}},
        )
        for row in rows
    ]
    write_geojson(out.with_suffix(".geojson"), tiles, origin_px)
    write_csv(out.with_suffix(".csv"), rows, COLUMNS)
