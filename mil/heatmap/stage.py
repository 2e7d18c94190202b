"""Heads and a bag in; a picture, a QuPath layer and a table of tiles out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shapely import MultiPolygon, box

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.heatmap.canvas import Canvas, Places, canvas_of, places_of, tiled_slide
from mil.heatmap.render import (
    RELATIVE_TOP,
    Scale,
    draw,
    draw_words,
    outlined,
    overlay,
    rings_of,
    scaled,
)
from mil.io.annotations import feature, read_annotation, write_geojson
from mil.io.atomic import atomic_path
from mil.io.bags import Bag, BagHeader, read_bag
from mil.io.tables import read_folds, write_csv
from mil.statistics.text import column_title
from mil.trained import Applied, Trained, apply, load_heads
from mil.trained.compatibility import check_fits, check_numbers

VALUES = ("attention", "percentile", "relative")
NOWHERE = "This bag does not say where its tiles are. Their attention cannot be drawn; it is in the .csv, tile by tile."


def run(
    heads: Sequence[Path],
    bag_path: Path,
    tiles_path: Path | None,
    out: Path,
    *,
    slide: Path | None = None,
    folds: Path | None,
    annotation: Path | None,
    scale: Scale,
    geojson_frame: GeojsonFrame = "scanned",
) -> str:
    """Draw one slide's attention from cached features; nothing is embedded again.

    With several heads (seeds and folds of one recipe) the attention is their mean.
    Given `folds`, only heads that did not train on the slide take part, as long as
    there is one; if there is none, the title says so. Of heads that select tiles, those
    are outlined that at least half of the heads selected; the layer and the table hold
    the share.

    Args:
        heads: folders of the heads.
        bag_path: the slide's bag.
        tiles_path: its tiles file; overview picture and tissue outline lie beside it.
            None for a ready bag: then attention is drawn on the slide, if that is
            given, else on white glass.
        out: the PNG; `.geojson` and `.csv` go beside it.
        slide: the slide's file, only to be seen under the attention of a ready bag.
        folds: folds.csv, or None.
        annotation: annotated regions to outline, or None.
        scale: see `mil.heatmap.render.scaled`.
        geojson_frame: what the annotation counts from, if it is GeoJSON; see
            `mil.config.datasets`.

    Returns:
        One line about what was drawn.

    Raises:
        DatasetError: no head is given, or heads of several recipes; or `out` is no PNG.
        FormatError: a file cannot be used.
    """
    if out.suffix.lower() != ".png":
        raise DatasetError(f"{out}: the picture is a PNG; give a name that ends with .png")
    torch.set_num_threads(1)  # a bag takes milliseconds; starting threads would take longer
    bag = read_bag(bag_path)
    if bag.state != "ok":
        draw_state(out, tiles_path, bag)
        return f"{bag.slide}: {bag.state}, nothing to draw"
    check_numbers(bag, bag_path)
    chosen, seen = _choose(heads, bag_path, bag, folds)
    applied = [apply(head, trained, bag) for head, trained in chosen]
    title = title_of(bag.slide, chosen[0][1], applied) + (", seen in training" if seen else "")
    return title + draw_bundle(
        bag,
        applied,
        out,
        title=title,
        tiles=tiles_path,
        slide=slide,
        annotation=annotation,
        scale=scale,
        geojson_frame=geojson_frame,
    )


def draw_bundle(
    bag: Bag,
    applied: Sequence[Applied],
    out: Path,
    *,
    title: str,
    tiles: Path | None,
    slide: Path | None = None,
    annotation: Path | None = None,
    scale: Scale = "percentile",
    geojson_frame: GeojsonFrame = "scanned",
) -> str:
    """Write picture, layer and table of what heads said of a slide's valid tiles; see `run`.

    Args:
        bag: says what is known of the slide and its tiles; its features are not looked
            at.
        applied: what each head said.
        out: the PNG.
        title: of the picture.
        tiles: the tiles file, or None.
        slide: the slide's file, or None.
        annotation: regions to outline, or None.
        scale: see `mil.heatmap.render.scaled`.
        geojson_frame: what the annotation counts from.

    Returns:
        What there is to add to the title; mostly nothing.
    """
    weights = np.mean([one.attention for one in applied], axis=0)
    selected = _selected(applied)
    places = places_of(bag)
    if places is None:
        with atomic_path(out) as scratch:
            draw_words(scratch, title, NOWHERE)
        note = "; the bag does not say where its tiles are"
        _write_layers(out, bag, weights, selected, bag.origin_px)
    else:
        canvas, note = canvas_of(bag, places, tiles, slide)
        # GeoJSON and XML are in pixels, which a bag in micrometres does not know.
        regions = _regions(annotation if bag.places() else None, canvas, geojson_frame)
        _draw(out, canvas, places, regions, scaled(weights, scale), selected, title, scale)
        _write_layers(out, bag, weights, selected, canvas.scanned_px)
    return note


def _choose(
    heads: Sequence[Path], bag_path: Path, bag: Bag, folds: Path | None
) -> tuple[list[tuple[Any, Trained]], bool]:
    loaded = load_heads(heads)
    for _, trained in loaded:
        check_fits(trained, bag, bag_path)
    if folds is None:
        return loaded, False
    split = {
        int(row["fold"]): row["split"] for row in read_folds(folds) if row["slide"] == bag.slide
    }
    unseen = [pair for pair in loaded if split.get(pair[1].fold) not in ("train", "val")]
    return unseen or loaded, not unseen


def title_of(slide: str, trained: Trained, applied: Sequence[Applied]) -> str:
    """What a picture is called: the slide, the mean answer of interest, and the recipe."""
    name = trained.task.of_interest
    value = np.mean([one.answers for one in applied], axis=0)[trained.task.columns.index(name)]
    mean_of = f", mean of {len(applied)} heads" if len(applied) > 1 else ""
    return f"{slide}   {column_title(name)} = {value:.3f}   {trained.recipe_name}{mean_of}"


def _regions(annotation: Path | None, canvas: Canvas, frame: GeojsonFrame) -> MultiPolygon:
    if annotation is None:
        return MultiPolygon()
    return read_annotation(annotation, canvas.scanned_px if frame == "scanned" else (0, 0))


def _selected(applied: Sequence[Applied]) -> np.ndarray | None:
    """Share of the heads that selected each tile; None for heads that select none."""
    chosen = [one.selected for one in applied if one.selected is not None]
    return np.mean(chosen, axis=0) if chosen else None


def _draw(
    out: Path,
    canvas: Canvas,
    places: Places,
    regions: MultiPolygon,
    values: np.ndarray,
    selected: np.ndarray | None,
    title: str,
    scale: Scale,
) -> None:
    corners = (places.corners - np.array(canvas.origin)) / canvas.scale
    side = places.side / canvas.scale
    top = 100.0 if scale == "percentile" else RELATIVE_TOP
    tissue = read_annotation(canvas.tissue, canvas.scanned_px) if canvas.tissue else MultiPolygon()
    coloured = overlay(canvas.image, corners, side, values, top)
    heading = "attention"
    if selected is not None:
        coloured = outlined(coloured, corners, side, selected >= 0.5)
        heading = "attention, selected tiles outlined"
    with atomic_path(out) as scratch:
        draw(
            scratch,
            canvas.image,
            coloured,
            title=title,
            scale=scale,
            um_per_px=canvas.um_per_px,
            name=canvas.name,
            heading=heading,
            tissue=rings_of(tissue, canvas.scale, canvas.origin),
            annotated=rings_of(regions, canvas.scale, canvas.origin),
        )


def draw_state(out: Path, tiles: Path | None, bag: BagHeader) -> None:
    """A slide without attention still has its picture: what was seen of it, and why there is no more."""
    title = f"{bag.slide}   {bag.state}: {bag.reason}"
    with atomic_path(out) as scratch:
        if tiles is None:
            draw_words(
                scratch, f"{bag.slide}   {bag.state}", bag.reason or "This bag holds no tiles."
            )
        else:
            overview = tiled_slide(tiles).image
            draw(
                scratch,
                overview,
                overview,
                title=title,
                scale="percentile",
                um_per_px=0.0,
                tissue=[],
                annotated=[],
            )
    write_geojson(out.with_suffix(".geojson"), [])
    write_csv(out.with_suffix(".csv"), [], ("x", "y", *VALUES))


def _write_layers(
    out: Path,
    bag: Bag,
    weights: np.ndarray,
    selected: np.ndarray | None,
    scanned_px: tuple[int, int],
) -> None:
    ranks, multiples = (scaled(weights, scale) for scale in ("percentile", "relative"))
    values = [
        {
            "attention": float(f"{a:.6g}"),
            "percentile": round(float(q), 2),
            "relative": float(f"{r:.6g}"),
        }
        for a, q, r in zip(weights, ranks, multiples, strict=True)
    ]
    if selected is not None:
        values = [
            {**mine, "selected": round(float(share), 3)}
            for mine, share in zip(values, selected, strict=True)
        ]
    rows = [{**where, **mine} for where, mine in zip(_where(bag), values, strict=True)]
    places = bag.places()
    corners, side = places if places is not None else (np.empty((0, 2)), 0.0)
    tiles = [
        feature(
            box(x, y, x + side, y + side, ccw=False), {"objectType": "tile", "measurements": mine}
        )
        for (x, y), mine in zip(corners.tolist(), values, strict=False)
    ]
    write_geojson(out.with_suffix(".geojson"), tiles, scanned_px)
    write_csv(out.with_suffix(".csv"), rows)


def _where(bag: Bag) -> list[dict[str, Any]]:
    """How the table names each valid tile: by its corner, else by its row in the bag, from 0."""
    if bag.coords is not None:
        return [{"x": x, "y": y} for x, y in bag.coords[bag.valid].tolist()]
    if bag.coords_um is not None:
        return [
            {"x_um": round(x, 2), "y_um": round(y, 2)} for x, y in bag.coords_um[bag.valid].tolist()
        ]
    return [{"tile": number} for number in np.flatnonzero(bag.valid).tolist()]
