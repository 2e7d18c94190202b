"""Slides with made-up scores, drawn in one call."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mil.config import Recipe
from mil.heatmap.bundle import draw_bundle
from mil.io.bags import BagPositions
from mil.io.scores import HeadScores, TileEvidence
from mil.io.tiles import TileGeometry, Tiles, write_tiles
from mil.tasks import Classification
from mil.trained.record import Trained

# Colour of the overview.
PAPER = (240, 236, 244)
OVERVIEW_SCALE = 3.7


def trained(classes=("normal", "tumour"), **changes) -> Trained:
    task = Classification(classes=list(classes), positive=classes[-1])
    record = Trained(
        recipe_name="abmil",
        recipe=Recipe(name="abmil", options={}, losses={"cross_entropy": 1}),
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=4,
        task=task,
        dataset="d",
        seed=1,
        fold=0,
        epoch=1,
    )
    return record.model_copy(update=changes)


def scores_of(attention, effect=None, alone=None, **further) -> HeadScores:
    """Scores of two classes; evidence is that of the second."""
    evidence = None
    if effect is not None:
        alone = effect if alone is None else alone
        both = [np.stack([np.zeros(len(one)), one], axis=1) for one in (alone, effect)]
        evidence = TileEvidence(alone=both[0], effect=both[1])
    return HeadScores(
        logits=np.array([0.0, 1.0]),
        predictions=np.array([0.25, 0.75]),
        attention=np.asarray(attention, float),
        evidence=evidence,
        **further,
    )


@dataclass
class DrawnSlide:
    """A slide, its tiles and what was drawn of it."""

    coords: np.ndarray
    side: float
    mpp: float
    origin: tuple[int, int] = (0, 0)
    extent: tuple[int, int] = (3000, 2600)
    overview_scale: float = OVERVIEW_SCALE

    @property
    def bag(self) -> BagPositions:
        return BagPositions(
            slide="s1",
            encoder="tiny",
            tile_px=224,
            target_mpp=0.5,
            side_level0_px=self.side,
            mpp_level0=self.mpp,
            width_level0_px=self.origin[0] + self.extent[0],
            height_level0_px=self.origin[1] + self.extent[1],
            origin_x_level0_px=self.origin[0],
            origin_y_level0_px=self.origin[1],
            coords=self.coords.astype(np.int32),
            valid=np.ones(len(self.coords), bool),
        )

    def write_tiles(self, folder: Path) -> Path:
        """Tiles file and overview."""
        bag = self.bag
        geometry = TileGeometry(
            slide="s1",
            state="ok",
            reason="",
            tile_px=224,
            target_mpp=0.5,
            mpp_level0=self.mpp,
            side_level0_px=self.side,
            width_level0_px=bag.width_level0_px,
            height_level0_px=bag.height_level0_px,
            origin_x_level0_px=self.origin[0],
            origin_y_level0_px=self.origin[1],
            tissue_mm2=1.0,
            overview_scale=self.overview_scale,
        )
        tissue = np.ones(len(self.coords), np.float32)
        write_tiles(folder / "tiles.h5", Tiles(geometry, bag.coords, tissue))
        size = [round(length / self.overview_scale) for length in self.extent]
        # A PNG called JPEG: the colour stays as it is.
        Image.new("RGB", size, PAPER).save(folder / "tiles.jpg", format="png")
        (folder / "tiles.geojson").write_text('{"type": "FeatureCollection", "features": []}')
        return folder / "tiles.h5"

    def draw(self, folder: Path, scores: HeadScores, record=None, **settings) -> Path:
        """Draw the slide, and return the picture's path."""
        out = folder / "out" / "s1.png"
        records = [trained() if record is None else record]
        tiles = self.write_tiles(folder)
        draw_bundle(self.bag, records, [scores], out, title="s1", tiles=tiles, **settings)
        return out
