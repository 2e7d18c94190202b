"""Heads and bags in; predictions.csv and metrics.json out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.evaluate.localise import entropy_share, share_annotated, tile_auroc
from mil.evaluate.runs import Row
from mil.evaluate.selection import selection_of
from mil.evaluate.summary import metrics_of
from mil.heads import SelectsTiles
from mil.io.annotations import read_annotation
from mil.io.atomic import write_json
from mil.io.bags import Bag, read_bag
from mil.io.tables import locate_annotation, read_dataset, read_folds, write_csv
from mil.progress import progress
from mil.trained import Applied, Trained, apply, check_fits, check_numbers, load_heads

SEEN = ("tile_auroc", "attention_entropy_share", "selection")  # of test slides; see `metrics_of`


def run(
    dataset: str,
    heads: Sequence[Path],
    bags_dir: Path,
    folds: Path,
    out: Path,
    *,
    slides_dir: Path,
    threads: int,
) -> dict[str, Any]:
    """Apply trained heads of one recipe (its seeds and folds) to all slides.

    Args:
        dataset: name or yaml of the dataset.
        heads: folders of the heads.
        bags_dir: folder of the bags.
        folds: folds.csv.
        out: folder for predictions.csv and metrics.json.
        slides_dir: where annotations are looked for.
        threads: of the CPU.

    Returns:
        What metrics.json holds.

    Raises:
        DatasetError: no head is given, or heads of several recipes; or a fold is not in `folds`.
        FormatError: a file is not what it should be, or does not fit a head.
    """
    torch.set_num_threads(threads)
    table = read_folds(folds)
    models = load_heads(heads)
    slides = sorted({row["slide"] for row in table})
    regions = _regions(dataset, slides_dir)
    rows: list[Row] = []
    with progress("evaluate", len(slides), "slides") as advance:
        for slide in slides:
            path = bags_dir / f"{slide}.h5"
            bag = read_bag(path)
            check_numbers(bag, path)
            share = _share(bag, *regions[slide]) if slide in regions else None
            for head, trained in models:
                mine = next((r for r in table if r["slide"] == slide and int(r["fold"]) == trained.fold), None)
                if mine is None:
                    raise DatasetError(
                        f"{folds}: has no fold {trained.fold}, which {trained.recipe_name} was trained on"
                    )
                check_fits(trained, bag, path)
                applied = apply(head, trained, bag)
                row = _row(mine, trained, applied.answers)
                rows.append(row | (_seen(head, trained, bag, applied, share) if mine["split"] == "test" else {}))
            advance(1)
    rows.sort(key=lambda row: (row["seed"], row["fold"], row["slide"]))
    metrics = metrics_of(rows, models[0][1])
    columns = set(models[0][1].task.columns)
    write_csv(
        out / "predictions.csv",
        [{k: f"{v:.9g}" if k in columns else v for k, v in r.items() if k not in SEEN} for r in rows],
    )
    write_json(out / "metrics.json", metrics)
    return metrics


def _regions(dataset: str, slides_dir: Path) -> dict[str, tuple[Path, GeojsonFrame]]:
    settings, slides = read_dataset(dataset)
    found = {slide.slide: locate_annotation(slide, slides_dir, settings) for slide in slides}
    return {name: (path, settings.geojson_frame) for name, path in found.items() if path is not None and path.exists()}


def _share(bag: Bag, annotation: Path, frame: GeojsonFrame) -> Float[np.ndarray, " tiles"] | None:
    """Share of each readable tile that is annotated; None for a bag that does not say where its tiles are."""
    places = bag.places()
    if places is None:
        return None
    regions = read_annotation(annotation, bag.origin_px if frame == "scanned" else (0, 0))
    return share_annotated(*places, regions)


def _row(mine: Mapping[str, str], trained: Trained, answers: np.ndarray) -> Row:
    return {
        **{key: mine[key] for key in ("slide", "patient", "split", "label")},
        **{name: float(value) for name, value in zip(trained.task.columns, answers, strict=True)},
        "recipe": trained.recipe_name,
        "encoder": trained.encoder,
        "seed": trained.seed,
        "fold": trained.fold,
    }


def _seen(
    head: nn.Module, trained: Trained, bag: Bag, applied: Applied, share: Float[np.ndarray, " tiles"] | None
) -> Row:
    """What a test slide's metrics need besides its prediction."""
    selection = selection_of(head, trained, bag, applied, share) if isinstance(head, SelectsTiles) else None
    found = None if share is None else tile_auroc(applied.attention, share)
    return dict(zip(SEEN, (found, entropy_share(applied.attention), selection), strict=True))
