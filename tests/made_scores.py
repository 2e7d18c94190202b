"""A slide of 24 tiles with made-up scores by one head, as files."""

from pathlib import Path

import numpy as np

from mil.config import Recipe
from mil.io.bags.fingerprint import bag_digest
from mil.io.scores import BagScores, HeadScores, ScoredBag, ScoringHead, TileEvidence, write_scores
from mil.io.tiles import write_tiles
from mil.tasks import Classification
from mil.trained import Trained
from tests.synthetic import bag_file, tissue_slide

SIZE = (768, 512)
SIDE = 128
COORDS = np.array([(x * SIDE, y * SIDE) for y in range(4) for x in range(6)])
GEOMETRY = {
    "tile_px": 64,
    "mpp": 0.25,
    "side_level0_px": float(SIDE),
    "width_level0_px": SIZE[0],
    "height_level0_px": SIZE[1],
}
RECORD = Trained(
    recipe_name="abmil",
    recipe=Recipe(name="abmil", options={}, losses={"cross_entropy": 1}),
    encoder="tiny",
    weights_sha256="0" * 64,
    tiling="64px_0.5mpp",
    dim=2,
    task=Classification(classes=["normal", "tumour"], positive="tumour"),
    dataset="d",
    seed=1,
    fold=0,
    epoch=1,
)


def head_scores(*, evidence: bool = True) -> HeadScores:
    """Attention rises with the tile's number; the effect on p(tumour) falls."""
    attention = np.arange(1.0, len(COORDS) + 1)
    effect = np.zeros((len(COORDS), 2))
    effect[:, 1] = np.linspace(1, -1, len(COORDS))
    return HeadScores(
        logits=np.array([0.0, 1.0]),
        predictions=np.array([0.3, 0.7]),
        attention=attention / attention.sum(),
        evidence=TileEvidence(alone=effect * 2, effect=effect) if evidence else None,
    )


def scored_slide(folder: Path) -> None:
    """Write a slide s1.tif, its tiles file tiles/s1.h5 and its bag bags/s1.h5."""
    tissue_slide(folder / "s1.tif", SIZE, mpp=0.25, levels=(1,), box_px=(30, 30, 700, 480))
    bag = folder / "bags/s1.h5"
    bag.parent.mkdir()
    tiles = bag_file(bag, "s1", np.ones((len(COORDS), 2)), COORDS, **GEOMETRY)
    write_tiles(folder / "tiles/s1.h5", tiles)


def score_file(place: Path, scores: HeadScores | None) -> None:
    """Scores by one head; None: of a slide without tiles."""
    record = RECORD.model_dump_json()
    text = f'{{"format": "mil.head", "format_version": 2, "tool_version": "0", {record[1:]}'
    bag = ScoredBag("s1", bag_digest(place / "bags/s1.h5"))
    by_heads = {
        "state": "no_tissue" if scores is None else "ok",
        "heads": (ScoringHead(text, "0" * 64),),
        "scores": () if scores is None else (scores,),
    }
    write_scores(place / "s1.scores.h5", BagScores(name="s1", bags=(bag,), **by_heads))
