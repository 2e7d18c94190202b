"""A small study as `mil view` finds it: slides, tiles, bags, scores with evidence, metrics."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from shapely import box

from mil.config import Recipe
from mil.io.annotations import feature, write_geojson
from mil.io.bags.fingerprint import bag_digest
from mil.io.scores import (
    BagScores,
    HeadScores,
    ScoredBag,
    ScoringHead,
    TileEvidence,
    write_scores,
)
from mil.io.tables import write_csv
from mil.io.tiles import write_tiles
from mil.tasks import Classification
from mil.trained.record import FORMAT, VERSION, Trained
from tests.synthetic import bag_file, tissue_slide

TILING = "224px_0.5mpp"
# A scan of 1024 x 768 px at 0.5 µm/px, in tiles of 224 px.
SIZE = (1024, 768)
SIDE = 224.0
COORDS = np.array([(x * 224, y * 224) for y in range(3) for x in range(4)])
# Tile 5 decides, tile 0 speaks against it.
LIT, DARK = 5, 0


def record(recipe: str, seed: int, classes: list[str]) -> str:
    trained = Trained(
        recipe_name=recipe,
        recipe=Recipe(
            name="abmil", options={"hidden": 8, "attention": 8}, losses={"cross_entropy": 1}
        ),
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling=TILING,
        dim=4,
        task=Classification(classes=classes, positive=classes[-1]),
        dataset="d",
        seed=seed,
        fold=0,
        epoch=1,
    )
    header = {"format": FORMAT, "format_version": VERSION, "tool_version": "0"}
    return json.dumps({**header, **trained.model_dump(mode="json")})


def head_scores(tiles: int, lit: int, *, evidence: bool = True, branches: int = 0) -> HeadScores:
    attention = np.full(tiles, 0.5 / (tiles - 1))
    attention[lit] = 0.5
    effect = np.zeros((tiles, 2))
    effect[lit] = (-1.0, 1.0)
    effect[DARK] = (0.5, -0.5)
    branch_attention = None
    if branches:
        branch_attention = np.tile(attention[:, None], branches)
        # The last branch looks at another tile.
        branch_attention[:, -1] = np.roll(attention, 1)
    return HeadScores(
        logits=np.array([-1.0, 1.0]),
        predictions=np.array([0.25, 0.75]),
        attention=attention,
        branch_attention=branch_attention,
        evidence=TileEvidence(alone=2 * effect, effect=effect) if evidence else None,
    )


def write_scored_slide(
    study: Path, recipe: str, slide: str, scores: list[HeadScores], classes: list[str]
) -> None:
    bag = study / "features" / TILING / "tiny" / f"{slide}.h5"
    heads = tuple(
        ScoringHead(record(recipe, seed, classes), f"sha {seed}")
        for seed, _ in enumerate(scores, start=1)
    )
    content = BagScores(
        name=slide,
        bags=(ScoredBag(slide, bag_digest(bag)),),
        heads=heads,
        scores=tuple(scores),
    )
    path = study / "score" / TILING / "tiny" / recipe / f"{slide}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scores(path, content)


def write_evaluation(
    study: Path,
    recipe: str,
    values: dict[str, tuple[str, str, list[float]]],
    classes: list[str],
    dataset: str = "d",
    fusion: str = "late",
) -> None:
    """metrics.json and predictions.csv: by slide its label, split and probability by seed."""
    negative, positive = classes
    folder = study / "evaluate" / TILING / "tiny" / recipe
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"n_slides": len(values), "n_patients": len(values)}
    metrics = {
        "recipe": recipe,
        "encoder": "tiny",
        "dataset": dataset,
        "task": "classification",
        "classes": classes,
        "positive": positive,
        "fusion": fusion,
        "test": whole,
        "test_patients": whole,
        "runs": [{"seed": 1, "fold": 0, "n_slides": len(values)}],
        "over_runs": {},
        "attention_entropy_share": {
            name: 0.5 + number / (4 * len(values))
            for number, (name, (_, split, _)) in enumerate(values.items())
            if split == "test"
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    rows: list[dict[str, Any]] = [
        {
            "slide": name,
            "patient": name if fusion == "early" else f"p {name}",
            "split": split,
            "label": label,
            f"p_{negative}": 1 - value,
            f"p_{positive}": value,
            "recipe": recipe,
            "encoder": "tiny",
            "seed": seed,
            "fold": 0,
            "threshold": 0.5,
        }
        for name, (label, split, by_seed) in values.items()
        for seed, value in enumerate(by_seed, start=1)
    ]
    write_csv(folder / "predictions.csv", rows)


def write_study(
    folder: Path,
    slides: dict[str, tuple[str, str]],
    *,
    classes: tuple[str, str] = ("normal", "tumour"),
    title: str = "A study",
    with_files: bool = True,
) -> Path:
    """Results, yaml, slide table and slide files below a folder; the study's folder.

    Args:
        folder: Folder to write to.
        slides: Label and split of each slide.
        classes: Names of the classes.
        title: Title of the dataset.
        with_files: Whether the slides' files are there too.
    """
    study = folder / "results" / "d"
    named = list(classes)
    (folder / "d.yaml").write_text(
        f"title: {json.dumps(title)}\nclasses: {json.dumps(named)}\n"
        f"slides_dir: {json.dumps(str(folder / 'slides'))}\n"
        'slide_paths: ["{slide}.tif"]\nannotation_paths: ["{slide}.geojson"]\n',
        encoding="utf-8",
    )
    table = [
        {"slide": name, "patient": f"p {name}", "label": label, "split": split}
        for name, (label, split) in slides.items()
    ]
    write_csv(folder / "d.csv", table)
    for slide in slides:
        _write_slide(folder, study, slide, with_files=with_files)
        scores = [head_scores(len(COORDS), LIT), head_scores(len(COORDS), LIT)]
        write_scored_slide(study, "abmil", slide, scores, named)
        branched = [head_scores(len(COORDS), LIT + 1, branches=3)]
        write_scored_slide(study, "acmil", slide, branched, named)
    spread = {
        name: (label, split, [0.75 - 0.25 * number, 0.875 - 0.25 * number])
        for number, (name, (label, split)) in enumerate(slides.items())
    }
    write_evaluation(study, "abmil", spread, named)
    single = {name: (label, split, [0.625]) for name, (label, split) in slides.items()}
    write_evaluation(study, "acmil", single, named)
    return study


def _write_slide(folder: Path, study: Path, slide: str, *, with_files: bool) -> None:
    tiles_path = study / "tile" / TILING / f"{slide}.h5"
    tiles = bag_file(
        study / "features" / TILING / "tiny" / f"{slide}.h5",
        slide,
        np.zeros((len(COORDS), 4)),
        COORDS,
        mpp=0.5,
        width_level0_px=SIZE[0],
        height_level0_px=SIZE[1],
        overview_scale=8.0,
    )
    write_tiles(tiles_path, tiles)
    overview = Image.new("RGB", (SIZE[0] // 8, SIZE[1] // 8), (236, 210, 226))
    overview.save(tiles_path.with_suffix(".jpg"))
    write_geojson(tiles_path.with_suffix(".geojson"), [feature(box(200, 200, 800, 600), {})])
    if with_files:
        first = next((folder / "slides").glob("*.tif"), None)
        if first is None:
            tissue_slide(folder / "slides" / f"{slide}.tif", SIZE)
        else:
            shutil.copy(first, folder / "slides" / f"{slide}.tif")
        shape = feature(box(224, 224, 448, 448), {"objectType": "annotation"})
        write_geojson(folder / "slides" / f"{slide}.geojson", [shape])
