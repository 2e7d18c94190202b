"""Stage `refine`: slide, bag, heads and encoder give a finer map of the attended region."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mil.encoders.runner import BatchedEncoder, extraction_settings
from mil.errors import DatasetError, FormatError
from mil.features.extract import encoded_batches
from mil.features.stain import normalised
from mil.heatmap.title import title_of
from mil.io.atomic import check_not_inputs
from mil.io.bags import Bag, read_bag
from mil.io.bags.checks import check_slide
from mil.io.bags.stain import stain_of
from mil.io.slides import SlideReader, TileRequest
from mil.io.tables import write_csv
from mil.io.tile_images import TileFootprints, check_size, footprints_of_bag
from mil.io.tiles import read_tiles
from mil.predict.ensemble import Ensemble
from mil.progress import progress
from mil.refine.grid import CellMeans, FineTiles, attended_tiles, cell_means, fine_tiles
from mil.refine.picture import Region, draw_fine, percentiles_in
from mil.refine.scores import fine_scores
from mil.trained.compatibility import check_compatible, check_usable
from mil.trained.forward import forward, tensors_of
from mil.trained.scored_slide import unseen_heads

# Tiles from this percentile of attention up are read again.
PERCENTILE = 90.0
# Tiles that are read again of a slide, at most.
MOST_TILES = 4096
NOT_INDEPENDENT = (
    "in this head tiles attend to one another, so that a tile between them has no attention of its "
    "own; finer maps are of heads that pool, such as abmil, acmil and clam_sb"
)
JOINED = (
    "features of joined encoders come from tiles of several sizes, which are not read again at "
    "finer strides; draw finer maps of a head of one encoder"
)
COLUMNS = ("x", "y", "side", "relative", "percentile", "alone", "effect")


@dataclass(frozen=True)
class RefineSettings:
    """Settings of finer maps.

    Attributes:
        per_side: Cells along a tile's side: 4 for a stride of a quarter tile.
        percentile: Percentile of attention from which tiles are read again, 0 to 100.
        most: Largest number of tiles that are read again.
        threads: Threads for reading, and as many for the encoder on a CPU.
    """

    per_side: int
    percentile: float = PERCENTILE
    most: int = MOST_TILES
    threads: int = 1


def check_independent(ensemble: Ensemble) -> None:
    """Refuse heads whose tiles attend to one another, and heads of joined encoders.

    Raises:
        DatasetError: The heads are such.
    """
    if not ensemble.streams:
        raise DatasetError(f"{ensemble.trained.recipe_name}: {NOT_INDEPENDENT}")
    if ensemble.joined:
        raise DatasetError(f"{ensemble.trained.encoder}: {JOINED}")


def run(
    slide: Path,
    bag_path: Path,
    tiles_path: Path | None,
    ensemble: Ensemble,
    runner: BatchedEncoder,
    out: Path,
    settings: RefineSettings,
    *,
    folds: Path | None = None,
    made_from: str = "",
) -> str:
    """Draw a finer map of a slide, and write its cells as a table.

    Args:
        slide: Slide file.
        bag_path: Bag of the slide.
        tiles_path: Tiles file of the slide, which names the image of a file that holds
            several; or None.
        ensemble: Heads of one recipe.
        runner: Encoder of the heads.
        out: Picture to write, a PNG; `.csv` goes beside it.
        settings: See `RefineSettings`.
        folds: The folds.csv, to use only heads that did not train on the slide; or None.
        made_from: Digest of what the map depends on; see `mil.io.provenance`.

    Returns:
        A line about the map.

    Raises:
        DatasetError: The heads cannot have one, or `out` is no PNG.
        FormatError: A file cannot be used, or files are not of one slide.
        SlideError: The slide does not open.
    """
    if out.suffix.lower() != ".png":
        raise DatasetError(f"{out}: the picture is a PNG; give a name that ends with .png")
    table = out.with_suffix(".csv")
    check_not_inputs([out, table], [slide, bag_path, tiles_path, folds])
    check_independent(ensemble)
    bag = read_bag(bag_path)
    check_slide(bag, bag_path)
    check_usable(bag, bag_path)
    check_compatible(ensemble.trained, bag, bag_path)
    footprints = footprints_of_bag(
        bag, None if tiles_path is None else read_tiles(tiles_path).geometry
    )
    unseen = unseen_heads(ensemble.records, bag.slide, folds)
    models = [ensemble.models[number] for number in unseen or range(len(ensemble.models))]
    tensors = tensors_of(bag)
    scores = [forward(head, trained, tensors) for head, trained in models]
    attention = np.mean([one.attention for one in scores], axis=0)
    attended = attended_tiles(attention, settings.percentile)
    corners, side = footprints.corners, footprints.side_level0_px
    fine = fine_tiles(corners, side, attended, per_side=settings.per_side, most=settings.most)
    with SlideReader(slide, scene=footprints.scene) as reader:
        check_size(reader, footprints)
        region = Region(reader, fine, side)
    fine, features = _embedded(slide, footprints, fine, bag, runner, settings)
    fine_of = fine_scores(models, tensors, features)
    means = cell_means(fine.cells, fine.per_side, np.stack(fine_of, axis=1))
    relative = attention * len(attention)
    seen = "" if unseen else ", seen in training"
    title = f"{title_of(bag.slide, [trained for _, trained in models], scores)}{seen}"
    _write_table(table, fine, means, relative)
    draw_fine(out, region, corners, side, relative, fine, means, title=title, made_from=made_from)
    return (
        f"{bag.slide}: {len(fine.corners)} tiles at a stride of 1/{fine.per_side} around the "
        f"{len(attended)} tiles of most attention{seen}"
    )


def _embedded(
    slide: Path,
    footprints: TileFootprints,
    fine: FineTiles,
    bag: Bag,
    runner: BatchedEncoder,
    settings: RefineSettings,
) -> tuple[FineTiles, Float[np.ndarray, "readable dim"]]:
    """Features of the fine tiles that can be read, rounded as those of the bag are."""
    # Row by row, as readers expect.
    order = np.lexsort((fine.corners[:, 0], fine.corners[:, 1]))
    fine = fine._replace(corners=fine.corners[order], cells=fine.cells[order])
    request = TileRequest(
        slide,
        fine.corners,
        footprints.side_level0_px,
        footprints.tile_px,
        footprints.scene,
    )
    count = len(fine.corners)
    extraction = extraction_settings([runner], count, max_corrupt=1.0, threads=settings.threads)
    features = np.zeros((count, runner.dim), bag.features.dtype)
    readable = np.zeros(count, bool)
    # The stains that the bag's own tiles were normalised by, not another estimate.
    encoders = normalised([runner], stain_of(bag))
    batches = encoded_batches(request, encoders, extraction)
    with progress(f"refine {footprints.slide}", count, "tiles") as advance, closing(batches):
        for batch in batches:
            with np.errstate(over="ignore"):
                features[batch.rows][batch.readable] = batch.features[0]
            readable[batch.rows] = batch.readable
            advance(len(batch.readable))
    if not np.isfinite(features).all():
        raise FormatError(
            f"{footprints.slide}: {runner.encoder.name} gives features that are not finite in "
            f"{features.dtype}; set features.dtype: float32 or features.precision: fp32"
        )
    if not readable.any():
        raise FormatError(f"{slide}: none of the tiles of most attention can be decoded")
    kept = fine._replace(corners=fine.corners[readable], cells=fine.cells[readable])
    return kept, features[readable]


def _write_table(
    path: Path, fine: FineTiles, means: CellMeans, relative: Float[np.ndarray, " tiles"]
) -> None:
    corners = fine.origin + means.cells * fine.step
    percentiles = percentiles_in(means.means[:, 0], relative)
    rows = [
        {
            "x": f"{x:.1f}",
            "y": f"{y:.1f}",
            "side": f"{fine.step:.6g}",
            "relative": f"{of_cell[0]:.6g}",
            "percentile": f"{percentile:.2f}",
            "alone": f"{of_cell[1]:.6g}",
            "effect": f"{of_cell[2]:.6g}",
        }
        for (x, y), of_cell, percentile in zip(
            corners.tolist(), means.means.tolist(), percentiles.tolist(), strict=True
        )
    ]
    write_csv(path, rows, COLUMNS)
