"""A study of made-up scores: one tile decides, and it is the annotated one."""

import json
import math
from pathlib import Path

import numpy as np
from shapely import box

from mil.evaluate import stage
from mil.io.annotations import feature, write_geojson
from mil.io.bags.fingerprint import bag_digest
from mil.io.results import Metrics
from mil.io.scores import (
    FLIP_SHARES,
    BagScores,
    HeadScores,
    ScoredBag,
    ScoringHead,
    TileEvidence,
    write_scores,
)
from mil.io.tables import write_csv
from mil.trained.record import FORMAT, VERSION
from mil.versions import TOOL_VERSION
from tests.evaluate.test_metrics import trained
from tests.synthetic import bag_file

TILES = 12
SIDE = 448  # level-0 pixels of 0.25 um: 112 um; tiles lie in a row
PLANTED = 4
# Log-odds of the bag with the planted tile and without it.
WITH = 3.0
WITHOUT = -1.0
# Slide, label, split; `n` are normal.
SLIDES = [
    *((f"t{n}", "tumour", "test") for n in range(4)),
    *((f"n{n}", "normal", "test") for n in range(4)),
    *((f"v{n}", "tumour", "val") for n in range(2)),
]


def logits(odds: np.ndarray) -> np.ndarray:
    """Logits of two classes, tumour first, of log-odds [...]."""
    # NaN where no tile is left, of both.
    return np.stack([odds, odds * 0], axis=-1)


def flipped(order: np.ndarray, tumour: bool) -> np.ndarray:
    """Logits [2, shares, 2] of a bag that loses tiles from the first, and from the last."""
    rows = np.full((2, len(FLIP_SHARES)), np.nan)
    for row, tiles in zip(rows, (order, order[::-1]), strict=True):
        for number, share in enumerate(FLIP_SHARES):
            left = tiles[math.ceil(share * len(tiles) - 1e-9) :]
            if len(left):
                row[number] = WITH if tumour and PLANTED in left else WITHOUT
    return logits(rows)


def head_scores(tumour: bool, *, evidence: bool = True, attended: int = 0) -> HeadScores:
    """Scores of a bag: attention looks at another tile than the one that decides."""
    odds = np.full(TILES, WITHOUT)
    effect = np.zeros(TILES)
    if tumour:
        odds[PLANTED] = WITH
        effect[PLANTED] = WITH - WITHOUT
    attention = np.full(TILES, 0.5 / (TILES - 1))
    attention[attended] = 0.5
    whole = logits(np.array(WITH if tumour else WITHOUT))
    tiles = TileEvidence(alone=logits(odds), effect=logits(effect) * [1, 0])
    orders = [np.argsort(-values, kind="stable") for values in (attention, odds, effect)]
    p = 1 / (1 + np.exp(-(whole[0] - whole[1])))
    return HeadScores(
        logits=whole,
        predictions=np.array([p, 1 - p]),
        attention=attention.astype(np.float32).astype(float),
        evidence=tiles if evidence else None,
        flipped_logits=np.stack([flipped(order, tumour) for order in orders]) if evidence else None,
    )


def record() -> str:
    """Text of a recipe.json."""
    content = trained().model_dump(mode="json")
    header = {"format": FORMAT, "format_version": VERSION, "tool_version": TOOL_VERSION}
    return json.dumps({**header, **content})


def write_study(folder: Path, *, evidence: bool = True, more_yaml: str = "") -> Path:
    """Bags, annotations, score files, toy.yaml, toy.csv and folds.csv."""
    table = []
    for slide, label, split in SLIDES:
        bag = folder / "bags" / f"{slide}.h5"
        bag_file(bag, slide, np.zeros((TILES, 6)))
        if label == "tumour":
            region = box(PLANTED * SIDE, 0, (PLANTED + 1) * SIDE, 2 * SIDE)
            write_geojson(folder / f"{slide}.geojson", [feature(region, {})])
        table.append({"slide": slide, "patient": slide, "label": label, "split": split})
        scores = BagScores(
            name=slide,
            bags=(ScoredBag(slide, bag_digest(bag)),),
            heads=(ScoringHead(record(), "0" * 64),),
            scores=(head_scores(label == "tumour", evidence=evidence),),
        )
        write_scores(folder / "scores" / f"{slide}.h5", scores)
    write_csv(folder / "toy.csv", [{k: row[k] for k in ("slide", "label")} for row in table])
    write_csv(folder / "folds.csv", [{"fold": 0, **row} for row in table])
    (folder / "toy.yaml").write_text(
        "classes: [tumour, normal]\npositive: tumour\n"
        f'annotation_paths: ["{{slide}}.geojson"]\n{more_yaml}'
    )
    return folder


def evaluated(study: Path) -> Metrics:
    """Content of metrics.json."""
    return stage.run(
        str(study / "toy.yaml"),
        study / "scores",
        study / "bags",
        study / "folds.csv",
        study / "out",
        slides_dir=study,
    )
