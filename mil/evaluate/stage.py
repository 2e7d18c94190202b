"""Heads and bags in; predictions.csv and metrics.json out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.evaluate.localise import share_annotated, tile_auroc
from mil.io.annotations import read_annotation
from mil.io.atomic import write_json
from mil.io.bags import Bag, read_bag
from mil.io.tables import locate_annotation, read_csv, read_dataset, write_csv
from mil.metrics import classification, with_intervals
from mil.progress import progress
from mil.trained import Trained, apply, check_fits, check_numbers, load_trained

Row = dict[str, Any]


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
    """
    torch.set_num_threads(threads)
    table = read_csv(folds)
    models = [load_trained(folder) for folder in heads]
    slides = sorted({row["slide"] for row in table})
    regions = _regions(dataset, slides_dir)
    rows: list[Row] = []
    found: list[Row] = []
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
                row = _row(mine, trained, applied.probabilities)
                rows.append(row)
                if share is not None:
                    found.append({**row, "tile_auroc": tile_auroc(applied.attention, share)})
            advance(1)
    rows.sort(key=lambda row: (row["seed"], row["fold"], row["slide"]))
    metrics = _metrics(rows, found, models[0][1])
    write_csv(
        out / "predictions.csv",
        [{**r, **{k: f"{v:.9g}" for k, v in r.items() if k.startswith("p_")}} for r in rows],
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


def _row(mine: Mapping[str, str], trained: Trained, probabilities: np.ndarray) -> Row:
    return {
        **{key: mine[key] for key in ("slide", "patient", "split", "label")},
        **{f"p_{name}": float(p) for name, p in zip(trained.classes, probabilities, strict=True)},
        "recipe": trained.recipe_name,
        "encoder": trained.encoder,
        "seed": trained.seed,
        "fold": trained.fold,
    }


def _metrics(rows: Sequence[Row], found: Sequence[Row], trained: Trained) -> dict[str, Any]:
    classes = trained.classes
    test = [row for row in rows if row["split"] == "test"]
    runs = sorted({(row["seed"], row["fold"]) for row in rows})
    each = [
        {
            "seed": seed,
            "fold": fold,
            **_plain([r for r in test if (r["seed"], r["fold"]) == (seed, fold)], classes),
        }
        for seed, fold in runs
    ]
    names = ("auroc_macro", "f1_macro", "accuracy")
    return {
        "recipe": trained.recipe_name,
        "encoder": trained.encoder,
        "dataset": trained.dataset,
        "classes": classes,
        # A slide's probability here is the mean over the heads that did not see it in training.
        "test": _with_intervals(test, classes),
        "runs": each,
        "over_runs": {name: _mean_sd([run.get(name) for run in each]) for name in names},
        "localisation": _localisation(found, trained),
        "slides_used": sorted({row["slide"] for row in test}),
    }


def _arrays(rows: Sequence[Row], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    labels = np.array([classes.index(row["label"]) for row in rows])
    return labels, np.array([[row[f"p_{name}"] for name in classes] for row in rows])


def _plain(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    return classification(*_arrays(rows, classes)) | {"n_slides": len(rows)} if rows else {"n_slides": 0}


def _with_intervals(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    if not rows:
        return {"n_slides": 0, "n_patients": 0}
    slides = {row["slide"]: row for row in rows}
    mean = [
        {
            **row,
            **{f"p_{c}": float(np.mean([r[f"p_{c}"] for r in rows if r["slide"] == slide])) for c in classes},
        }
        for slide, row in slides.items()
    ]
    return with_intervals(*_arrays(mean, classes), [row["patient"] for row in mean])


def _mean_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)) if known else None, "sd": sd}


def _localisation(found: Sequence[Row], trained: Trained) -> dict[str, Any] | None:
    rows = [r for r in found if r["split"] == "test" and r["label"] == trained.positive and r["tile_auroc"] is not None]
    if not rows:
        return None
    per_slide = {
        slide: float(np.mean([row["tile_auroc"] for row in rows if row["slide"] == slide]))
        for slide in sorted({row["slide"] for row in rows})
    }
    values = list(per_slide.values())
    return {
        "tile_auroc_mean": float(np.mean(values)), "tile_auroc_min": min(values), "n_slides": len(values),
        "per_slide": per_slide,
    }  # fmt: skip
