"""Composite slides written as a dataset that the workflow runs on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mil.config import name_fault
from mil.demo.composite import JPEG_QUALITY, cell_corners, render
from mil.demo.composite_plan import CELL_PX, CompositeSlide, Layout, Split, plan_composites
from mil.demo.labelled_tiles import (
    CLASS_NAMES,
    LabelledTiles,
    read_labelled_tiles,
    read_tile,
    tiles_with_tissue,
)
from mil.demo.pyramid import write_pyramid
from mil.errors import DatasetError
from mil.io.atomic import atomic_path, write_text
from mil.io.tables import write_csv
from mil.progress import progress

# Resized tiles that are kept in memory; a slide has about a hundred.
CACHED_TILES = 2000

YAML = """\
# Made by `mil demo composites`; the slide table is {name}.csv beside this file.
title: {title}
classes: [normal, tumour]
positive: tumour
slides_dir: {slides_dir}
notes: |
  Composite slides of {num_tiles} real labelled tiles, at places drawn by seed {seed}.
  Half of the slides hold a spot of tumour tiles, {percent:g} % of their tiles.
  Each slide has a stain of its own. Slides of different splits share no tile, nor do
  the two test sets (column test_set), if there are two. The annotations are exact.
  A tile of the workflow for each labelled tile: tile={{mpp: {mpp}}}.
"""


@dataclass(frozen=True)
class CompositeReport:
    """Files that were written.

    Attributes:
        yaml: yaml of the dataset, with its slide table beside it.
        mpp: micrometres per pixel of the slides, at which a tile is a labelled tile.
        num_slides: number of slides by set.
    """

    yaml: Path
    mpp: str
    num_slides: dict[Split, int]

    def __str__(self) -> str:
        sizes = ", ".join(f"{count} {split}" for split, count in self.num_slides.items())
        sizes = sizes.replace("second", "second test")
        settings = f"dataset={self.yaml.stem} 'tile={{mpp: {self.mpp}}}'"
        return (
            f"{self.yaml}: composite slides: {sizes}\n"
            f"now: snakemake --cores all --config {settings}"
        )


def write_composites(
    folder: Path,
    out: Path,
    *,
    datasets: Path,
    slides: int,
    witness: float,
    seed: int,
    second: int,
    tile_mpp: float,
    force: bool = False,
) -> CompositeReport:
    """Write composite slides of a folder of labelled tiles as a dataset.

    Args:
        folder: folder of the tiles; see `read_labelled_tiles`.
        out: folder of the slides; its name is that of the dataset and begins the
            slides' ids.
        datasets: folder to write `NAME.yaml` and `NAME.csv` to.
        slides: number of slides without the second test set.
        witness: share of tumour tiles in a positive slide, 0 to 1.
        seed: random seed; see `mil.demo.composite_plan`.
        second: number of slides of the second test set.
        tile_mpp: micrometres per pixel of the tiles as stored.
        force: write over a dataset of that name.

    Raises:
        DatasetError: the tiles cannot be used or are too few, or a dataset is there.
    """
    name = out.resolve().name
    yaml = datasets / f"{name}.yaml"
    if fault := name_fault(name):
        raise DatasetError(f"{out}: the folder's name becomes that of the dataset; {fault}")
    if yaml.exists() and not force:
        raise DatasetError(
            f"{yaml}: exists already; choose another name for {out}, or overwrite it with --force"
        )
    tiles = read_labelled_tiles(folder)
    usable = tiles_with_tissue(tiles)
    try:
        plan = plan_composites(
            tiles.labels, usable, slides=slides, witness=witness, seed=seed, second=second
        )
    except DatasetError as error:
        raise DatasetError(f"{folder}: {error}") from None
    # Tiles are resized, so their micrometres per pixel change.
    mpp = tile_mpp * _usual_side(tiles) / CELL_PX
    _write_slides(out, name, plan, tiles, mpp)
    _write_tables(out, yaml.with_suffix(".csv"), plan, mpp)
    # Last, since a dataset is found by it.
    text = YAML.format(
        name=name,
        # JSON is YAML, and its quotes keep any path one string.
        title=json.dumps(f"Composite slides {name}", ensure_ascii=False),
        slides_dir=json.dumps(str(out.resolve()), ensure_ascii=False),
        num_tiles=int(usable.sum()),
        seed=seed,
        percent=100 * witness,
        mpp=f"{mpp:.5f}",
    )
    write_text(yaml, text)
    return CompositeReport(yaml, f"{mpp:.5f}", dict(Counter(slide.split for slide in plan)))


def _usual_side(tiles: LabelledTiles) -> int:
    """The most frequent width of the tiles, pixels; a few may be cut at a slide's edge."""
    sides: Counter[int] = Counter()
    for path in tiles.paths:
        with Image.open(path) as image:
            sides[image.width] += 1
    return sides.most_common(1)[0][0]


def _slide_ids(name: str, plan: Sequence[CompositeSlide]) -> list[str]:
    return [f"{name}_{number:03d}" for number in range(len(plan))]


def _split(slide: CompositeSlide) -> str:
    return "test" if slide.split == "second" else slide.split


def _write_slides(
    out: Path, name: str, plan: Sequence[CompositeSlide], tiles: LabelledTiles, mpp: float
) -> None:
    @lru_cache(maxsize=CACHED_TILES)
    def tile_of(number: int) -> UInt8[np.ndarray, "side side 3"]:
        return read_tile(tiles.paths[number], CELL_PX)

    with progress("composites", len(plan), "slides") as advance:
        for slide_id, slide in zip(_slide_ids(name, plan), plan, strict=True):
            with atomic_path(out / "slides" / f"{slide_id}.tif") as scratch:
                canvas = render(slide, tile_of)
                # Reduced levels are cut off to whole numbers, as those of the slides
                # that published figures are of.
                write_pyramid(scratch, canvas, mpp, quality=JPEG_QUALITY, rounding=0)
            annotation = out / "annotations" / f"{slide_id}.geojson"
            write_text(annotation, json.dumps(_tumour_squares(slide.layout)))
            advance(1)


def _write_tables(out: Path, table: Path, plan: Sequence[CompositeSlide], mpp: float) -> None:
    """Write `cells.csv` with the label of every tile, and the slide table."""
    slide_rows = []
    cell_rows = []
    for number, (slide_id, slide) in enumerate(
        zip(_slide_ids(table.stem, plan), plan, strict=True)
    ):
        row = {
            "slide": slide_id,
            "patient": f"p{number:03d}",
            "path": f"slides/{slide_id}.tif",
            "label": CLASS_NAMES[slide.positive],
            "split": _split(slide),
            "mpp": f"{mpp:.5f}",
            "annotation": f"annotations/{slide_id}.geojson" if slide.positive else "",
            "test_set": {"test": "first", "second": "second"}.get(slide.split, ""),
        }
        slide_rows.append(row)
        for (x, y), label in zip(cell_corners(slide.layout), slide.layout.labels, strict=True):
            cell_rows.append({"slide": slide_id, "x": x, "y": y, "label": int(label)})
    if not any(slide.split == "second" for slide in plan):
        for row in slide_rows:
            del row["test_set"]
    write_csv(out / "cells.csv", cell_rows)
    write_csv(table, slide_rows)


def _tumour_squares(layout: Layout) -> dict[str, object]:
    """GeoJSON of the tumour tiles, one square each."""
    features = []
    for (x, y), label in zip(cell_corners(layout), layout.labels, strict=True):
        right = x + CELL_PX
        bottom = y + CELL_PX
        ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
        if label:
            features.append(
                {
                    "type": "Feature",
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": "Tumor"},
                    },
                    "geometry": {"type": "Polygon", "coordinates": [ring]},
                }
            )
    return {"type": "FeatureCollection", "features": features}
