"""Scores of a slide in; a picture, a QuPath layer and a table out. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue
from shapely import MultiPolygon, box

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.heatmap.canvas import Canvas, Positions, canvas_of, positions_of, tiled_slide
from mil.heatmap.render import (
    RELATIVE_TOP,
    Scale,
    draw,
    draw_message,
    outlined,
    overlay,
    rings_of,
    scaled,
)
from mil.io.annotations import PositiveClasses, feature, few, read_annotation, write_geojson
from mil.io.atomic import atomic_path, check_not_inputs
from mil.io.bags import BagHeader, BagPositions, read_positions
from mil.io.bags.checks import check_slide
from mil.io.probe import probe
from mil.io.scores import HeadScores, check_bags, check_tiles, read_scores
from mil.io.tables import write_csv
from mil.statistics.attention import almost_uniform, entropy_share, ranks_note
from mil.statistics.text import with_threshold
from mil.trained.record import Trained, read_records, threshold_of
from mil.trained.scored_slide import unseen_heads

VALUES = ("attention", "percentile", "relative")
NO_POSITIONS = (
    "This bag does not say where its tiles are. Their attention cannot be drawn; it is in the "
    ".csv, tile by tile."
)


def run(
    score_path: Path,
    bag_path: Path,
    tiles_path: Path | None,
    out: Path,
    *,
    slide: Path | None = None,
    folds: Path | None,
    annotation: Path | None,
    scale: Scale,
    geojson_frame: GeojsonFrame = "scanned",
    made_from: str = "",
    annotation_classes: Sequence[str] = (),
) -> str:
    """Draw one slide's attention from its scores.

    With several heads (seeds and folds of one recipe) the attention is their mean.
    Given `folds`, only heads that did not train on the slide take part, as long as
    there is one; if there is none, the title says so. Of heads that select tiles, those
    are outlined that at least half of the heads selected; the layer and the table hold
    the share.

    Args:
        score_path: Score file of the slide.
        bag_path: Bag of the slide, for the positions of its tiles; no features are read.
        tiles_path: Tiles file of the slide; overview and tissue outline lie beside it.
            None for a precomputed bag: attention is then drawn on the slide, if that is
            given, else on a blank canvas.
        out: Picture to write, a PNG; `.geojson` and `.csv` go beside it.
        slide: Slide file, only to be seen under the attention of a precomputed bag.
        folds: The folds.csv, or None to draw the mean of all heads.
        annotation: File of annotated regions to outline, or None.
        scale: See `mil.heatmap.render.scaled`.
        geojson_frame: Origin of the coordinates of a GeoJSON annotation; see
            `mil.config.datasets`.
        made_from: Digest of what the picture depends on; see `mil.io.provenance`.
        annotation_classes: Classes of the annotation to outline; empty: those named like
            the positive region.

    Returns:
        A line about the picture.

    Raises:
        DatasetError: `out` is no PNG.
        FormatError: a file cannot be used, or the scores are of another bag.
    """
    # The layer and the table take the name with other endings.
    if out.suffix.lower() != ".png":
        raise DatasetError(f"{out}: the picture is a PNG; give a name that ends with .png")
    outputs = [out, *(out.with_suffix(suffix) for suffix in (".geojson", ".csv"))]
    # Beside a tiles file lies the tissue's outline, under the name of the layer.
    of_tiles = [] if tiles_path is None else [tiles_path, tiles_path.with_suffix(".geojson")]
    check_not_inputs(outputs, [score_path, bag_path, *of_tiles, slide, folds, annotation])
    probe([bag_path, score_path, *([] if tiles_path is None else [tiles_path])])
    bag = read_positions(bag_path)
    check_slide(bag, bag_path)
    scores = read_scores(score_path)
    # Scores that are older than their bag have the attention of other tiles.
    check_bags(scores, score_path, [bag_path])
    check_tiles(scores, score_path, int(bag.valid.sum()))
    if bag.state != "ok":
        draw_state(out, tiles_path, bag, made_from=made_from)
        return f"{bag.slide}: {bag.state}, nothing to draw"
    records = read_records([head.record for head in scores.heads], score_path)
    unseen = unseen_heads(records, bag.slide, folds)
    # A slide of the training set is drawn too, but says so.
    drawn = unseen or range(len(records))
    chosen = [scores.scores[number] for number in drawn]
    title = title_of(bag.slide, [records[number] for number in drawn], chosen)
    if not unseen:
        title += ", seen in training"
    note = draw_bundle(
        bag,
        chosen,
        out,
        title=title,
        tiles=tiles_path,
        slide=slide,
        annotation=annotation,
        scale=scale,
        geojson_frame=geojson_frame,
        made_from=made_from,
        positive=PositiveClasses(tuple(annotation_classes), records[0].positive),
    )
    return title + note


def draw_bundle(
    bag: BagPositions,
    scores: Sequence[HeadScores],
    out: Path,
    *,
    title: str,
    tiles: Path | None,
    slide: Path | None = None,
    annotation: Path | None = None,
    scale: Scale = "percentile",
    geojson_frame: GeojsonFrame = "scanned",
    made_from: str = "",
    positive: PositiveClasses = PositiveClasses(),  # noqa: B008  an immutable tuple
) -> str:
    """Write picture, layer and table of a slide's valid tiles; see `run`.

    Args:
        bag: What is known of the slide and its tiles.
        scores: Scores by each head that takes part.
        out: Picture to write, a PNG.
        title: Title of the picture.
        tiles: Tiles file, or None.
        slide: Slide file, or None.
        annotation: File of regions to outline, or None.
        scale: See `mil.heatmap.render.scaled`.
        geojson_frame: Origin of the coordinates of a GeoJSON annotation.
        made_from: Digest of what the picture depends on.
        positive: Rule by which classes of the annotation are outlined.

    Returns:
        An addition to the title; mostly empty.
    """
    # Of each head it sums to 1, so that the mean does too and no head weighs more.
    attention = np.mean([head.attention for head in scores], axis=0)
    selected = _selected_share(scores)
    positions = positions_of(bag)
    # The picture comes last: the others are there when it is.
    if positions is None:
        note = "; the bag does not say where its tiles are"
        _write_layers(out, bag, attention, selected, bag.origin_px)
        with atomic_path(out) as scratch:
            draw_message(scratch, title, NO_POSITIONS, made_from=made_from)
    else:
        canvas, note = canvas_of(bag, positions, tiles, slide)
        # GeoJSON and XML are in pixels, which a bag in micrometres does not know.
        drawable = annotation if bag.positions() else None
        regions, about_regions = _regions(drawable, canvas, geojson_frame, positive)
        note += about_regions
        values = scaled(attention, scale)
        caution = almost_uniform(entropy_share(attention))
        if scale == "percentile":
            caution = ranks_note(attention)
        _write_layers(out, bag, attention, selected, canvas.scanned_px)
        _draw(
            out,
            canvas,
            positions,
            regions,
            values,
            selected,
            title=title,
            scale=scale,
            caution=caution,
            made_from=made_from,
        )
    return note


def title_of(slide: str, records: Sequence[Trained], scores: Sequence[HeadScores]) -> str:
    """Title of a picture: the slide, the mean prediction of interest, and the recipe."""
    trained = records[0]
    name = trained.task.column_of_interest
    predictions = np.mean([head.predictions for head in scores], axis=0)
    value = predictions[trained.task.columns.index(name)]
    mean_of = f", ensemble of {len(scores)} heads" if len(scores) > 1 else ""
    prediction = with_threshold(name, value, threshold_of(records))
    return f"{slide}   {prediction}   {trained.recipe_name}{mean_of}"


def _regions(
    path: Path | None, canvas: Canvas, frame: GeojsonFrame, positive: PositiveClasses
) -> tuple[MultiPolygon, str]:
    """The positive region of an annotation, and a note where it is not the whole file."""
    if path is None:
        return MultiPolygon(), ""
    # QuPath counts from the scanned part of a slide; see docs/explain/decisions.md.
    annotation = read_annotation(path, canvas.scanned_px if frame == "scanned" else (0, 0))
    regions = annotation.positive(positive)
    if regions.is_empty and annotation.content != "nothing":
        return regions, f"; no region to outline: {path.name} holds {annotation.content}"
    faults = f"; {path.name}: left out {few(annotation.faults)}" if annotation.faults else ""
    return regions, faults


def _selected_share(scores: Sequence[HeadScores]) -> Float[np.ndarray, " tiles"] | None:
    """Share of the heads that selected each tile; None for heads that select none."""
    masks = [head.selection.selected for head in scores if head.selection is not None]
    return np.mean(masks, axis=0) if masks else None


def _draw(
    out: Path,
    canvas: Canvas,
    positions: Positions,
    regions: MultiPolygon,
    values: Float[np.ndarray, " tiles"],
    selected: Float[np.ndarray, " tiles"] | None,
    *,
    title: str,
    scale: Scale,
    caution: str,
    made_from: str,
) -> None:
    # Fractions of a pixel are kept: rounding comes last, in `painted`.
    corners = (positions.corners - np.array(canvas.origin)) / canvas.scale
    side = positions.side / canvas.scale
    top = 100.0 if scale == "percentile" else RELATIVE_TOP
    tissue = MultiPolygon()
    if canvas.tissue:
        tissue = read_annotation(canvas.tissue, canvas.scanned_px).outlines()
    coloured = overlay(canvas.image, corners, side, values, top)
    heading = "attention"
    if selected is not None:
        # Half of the heads: with one head its own selection, with several their majority.
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
            note=caution,
            tissue=rings_of(tissue, canvas.scale, canvas.origin),
            annotated=rings_of(regions, canvas.scale, canvas.origin),
            made_from=made_from,
        )


def draw_state(out: Path, tiles: Path | None, bag: BagHeader, *, made_from: str = "") -> None:
    """Draw the overview of a slide without attention, with its state and its reason."""
    # Empty files: the workflow waits for all three.
    write_geojson(out.with_suffix(".geojson"), [])
    write_csv(out.with_suffix(".csv"), [], ("x", "y", *VALUES))
    title = f"{bag.slide}   {bag.state}: {bag.reason}"
    with atomic_path(out) as scratch:
        if tiles is None:
            reason = bag.reason or "This bag holds no tiles."
            title = f"{bag.slide}   {bag.state}"
            draw_message(scratch, title, reason, made_from=made_from)
        else:
            overview = tiled_slide(tiles, bag).image
            draw(
                scratch,
                overview,
                overview,
                title=title,
                scale="percentile",
                # The state may be that the pixel size is not known: no scale bar.
                um_per_px=0.0,
                tissue=[],
                annotated=[],
                made_from=made_from,
            )


def _write_layers(
    out: Path,
    bag: BagPositions,
    attention: Float[np.ndarray, " tiles"],
    selected: Float[np.ndarray, " tiles"] | None,
    scanned_px: tuple[int, int],
) -> None:
    """Write the QuPath layer and the table beside the picture."""
    measurements = _measurements(attention, selected)
    rows = [{**name, **values} for name, values in zip(_tile_names(bag), measurements, strict=True)]
    places = bag.positions()
    corners, side = places if places is not None else (np.empty((0, 2)), 0.0)
    # Without places there is no tile in the layer, but every tile in the table.
    tiles = [
        feature(
            box(x, y, x + side, y + side, ccw=False),
            {"objectType": "tile", "measurements": values},
        )
        for (x, y), values in zip(corners.tolist(), measurements, strict=False)
    ]
    about: dict[str, JsonValue] = {
        "entropy_share": entropy_share(attention),
        "note": ranks_note(attention, "percentiles are ranks"),
    }
    write_geojson(out.with_suffix(".geojson"), tiles, scanned_px, {"attention": about})
    write_csv(out.with_suffix(".csv"), rows)


def _measurements(
    attention: Float[np.ndarray, " tiles"], selected: Float[np.ndarray, " tiles"] | None
) -> list[dict[str, float]]:
    """Attention of each tile on three scales, and the share of heads that selected it."""
    percentiles = scaled(attention, "percentile")
    multiples = scaled(attention, "relative")
    measurements = [
        {
            # Six digits are what a float32 holds for certain.
            "attention": float(f"{share:.6g}"),
            "percentile": round(float(percentile), 2),
            "relative": float(f"{multiple:.6g}"),
        }
        for share, percentile, multiple in zip(attention, percentiles, multiples, strict=True)
    ]
    if selected is not None:
        for values, share in zip(measurements, selected, strict=True):
            values["selected"] = round(float(share), 3)
    return measurements


def _tile_names(bag: BagPositions) -> list[dict[str, Any]]:
    """Columns that name each valid tile: its corner, else its row in the bag, from 0."""
    if bag.coords is not None:
        return [{"x": x, "y": y} for x, y in bag.coords[bag.valid].tolist()]
    if bag.coords_um is not None:
        corners_um = bag.coords_um[bag.valid].tolist()
        return [{"x_um": round(x, 2), "y_um": round(y, 2)} for x, y in corners_um]
    return [{"tile": number} for number in np.flatnonzero(bag.valid).tolist()]
