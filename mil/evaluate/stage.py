"""Heads and bags in; predictions of slides and patients, and metrics.json out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mil.config import DatasetConfig, dataset_path
from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.evaluate.localise import entropy_share, share_annotated, tile_auroc
from mil.evaluate.rows import Row, by_run
from mil.evaluate.selection import selection_of
from mil.evaluate.subgroups import by_patient
from mil.evaluate.summary import metrics_of
from mil.heads import SelectsTiles
from mil.io.annotations import read_annotation
from mil.io.atomic import write_json
from mil.io.bags import Bag
from mil.io.bags.patients import (
    HELD_OUT,
    FoldBag,
    check_labels,
    digest_of_seen,
    laid_together,
    read_each,
    read_fold_bags,
)
from mil.io.tables import Slide, read_dataset, write_csv
from mil.io.tables.paths import locate_annotation
from mil.progress import progress
from mil.trained import Applied, Trained, apply, load_heads
from mil.trained.compatibility import check_fits, check_numbers
from mil.trained.folder import FILES

Model = tuple[nn.Module, Trained]
Bags = Mapping[tuple[int, str], FoldBag]  # by fold and name
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
        out: folder for predictions.csv, predictions_patients.csv and metrics.json.
        slides_dir: where annotations are looked for.
        threads: of the CPU.

    Returns:
        What metrics.json holds.

    Raises:
        DatasetError: no head is given, or heads of several recipes; a fold is not in
            `folds`, or has other training and validation slides than the head was
            trained with.
        FormatError: a file is not what it should be, or does not fit a head.
    """
    torch.set_num_threads(threads)
    bags_of = {(bag.fold, bag.name): bag for bag in read_fold_bags(folds)}
    models = load_heads(heads)
    _check_folds(bags_of, models, folds, dataset_path(dataset).stem)
    last_models = _of_last_epochs(heads)
    settings, listed = read_dataset(dataset)
    regions = _regions(settings, listed, slides_dir)
    rows: list[Row] = []
    last: list[Row] = []
    slides_of = {bag.name: bag.slides for bag in sorted(bags_of.values(), key=lambda bag: bag.name)}
    with progress("evaluate", len(slides_of), "slides") as advance:
        for name, slides in slides_of.items():
            path = bags_dir / f"{slides[0]}.h5"
            parts = read_each([bags_dir / f"{slide}.h5" for slide in slides])
            bag = laid_together(parts, name)
            share = _share_of_all(parts, slides, regions)
            check_numbers(bag, path)
            for head, trained, mine in _concerned(models, bags_of, name):
                check_fits(trained, bag, path)
                applied = apply(head, trained, bag)
                row = _row(mine, trained, applied.answers)
                rows.append(
                    row
                    | (_seen(head, trained, bag, applied, share) if mine.split == "test" else {})
                )
            for head, trained, mine in _concerned(last_models, bags_of, name):
                if mine.split == "test":
                    last.append(_row(mine, trained, apply(head, trained, bag).answers))
            advance(1)
    rows.sort(key=lambda row: (row["seed"], row["fold"], row["slide"]))
    metrics = metrics_of(rows, models[0][1], _columns(listed, slides_of), last)
    (out / "metrics.json").unlink(missing_ok=True)  # never new predictions beside old metrics
    _write_predictions(out, rows, models[0][1])
    write_json(out / "metrics.json", metrics)
    return metrics


def _of_last_epochs(heads: Sequence[Path]) -> list[Model]:
    """The heads with the weights of their last epochs, without what was learnt of the kept ones; none if any has none.

    Heads that were imported have none.
    """
    if not all((folder / FILES["last"]).exists() for folder in heads):
        return []
    return [
        (head, trained.model_copy(update={"calibration": None}))
        for head, trained in load_heads(heads, "last")
    ]


def _concerned(
    models: Sequence[Model], bags: Bags, name: str
) -> Iterator[tuple[nn.Module, Trained, FoldBag]]:
    """Heads with the bag as their folds have it; folds of other tools may leave slides out."""
    for head, trained in models:
        mine = bags.get((trained.fold, name))
        if mine is not None:
            yield head, trained, mine


def _check_folds(bags: Bags, models: Sequence[Model], folds: Path, dataset: str) -> None:
    """Refuse a head of a fold that is not there, or that was trained on slides which are test here."""
    for _, trained in models:
        mine = [bag for (fold, _), bag in bags.items() if fold == trained.fold]
        if not mine:
            raise DatasetError(
                f"{folds}: has no fold {trained.fold}, which {trained.recipe_name} was trained on"
            )
        check_labels(
            [bag for bag in mine if bag.split == "test"], folds, trained.task.kind, trained.classes
        )
        seen = digest_of_seen(mine)
        if trained.dataset == dataset and None not in (seen, trained.seen) and seen != trained.seen:
            raise DatasetError(
                f"{folds}: fold {trained.fold} trains and validates on other slides than those "
                f"{trained.recipe_name} "
                f"seed {trained.seed} was trained with, which may be in its test; give the folds "
                "of that training, or "
                "train again"
            )


def _write_predictions(out: Path, rows: Sequence[Row], trained: Trained) -> None:
    """Every slide under every head, and every patient."""
    written = (*trained.task.columns, "temperature", "threshold")
    patients = [row for mine in by_run(rows).values() for row in by_patient(mine, trained.task)]
    for name, each in (("predictions.csv", rows), ("predictions_patients.csv", patients)):
        left_out = SEEN if name == "predictions.csv" else (*SEEN, "slide")
        write_csv(
            out / name,
            [
                {k: _written(v) if k in written else v for k, v in row.items() if k not in left_out}
                for row in each
            ],
        )


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _columns(
    slides: Sequence[Slide], slides_of: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    """Further columns of the slide table: the value of each bag; empty where its slides have several."""
    names = dict.fromkeys(name for slide in slides for name in slide.subgroups)
    of = {slide.slide: slide.subgroups for slide in slides}

    def value(name: str, members: Sequence[str]) -> str:
        found = {of[slide].get(name, "") for slide in members if slide in of}
        return found.pop() if len(found) == 1 else ""

    return {
        name: {bag: value(name, members) for bag, members in slides_of.items()} for name in names
    }


def _regions(
    settings: DatasetConfig, slides: Sequence[Slide], slides_dir: Path
) -> dict[str, tuple[Path, GeojsonFrame]]:
    found = {slide.slide: locate_annotation(slide, slides_dir, settings) for slide in slides}
    return {
        name: (path, settings.geojson_frame)
        for name, path in found.items()
        if path is not None and path.exists()
    }


def _share_of_all(
    parts: Sequence[Bag], slides: Sequence[str], regions: Mapping[str, tuple[Path, GeojsonFrame]]
) -> Float[np.ndarray, " tiles"] | None:
    """Share of each readable tile that is annotated; None where a slide of the bag has no annotation or no places."""
    shares = [
        _share(bag, *regions[slide])
        for bag, slide in zip(parts, slides, strict=True)
        if slide in regions
    ]
    known = [share for share in shares if share is not None]
    return np.concatenate(known) if len(known) == len(slides) else None


def _share(bag: Bag, annotation: Path, frame: GeojsonFrame) -> Float[np.ndarray, " tiles"] | None:
    """Share of each readable tile that is annotated; None for a bag that does not say where its tiles are."""
    places = bag.places()
    if places is None:
        return None
    regions = read_annotation(annotation, bag.origin_px if frame == "scanned" else (0, 0))
    return share_annotated(*places, regions)


def _row(mine: FoldBag, trained: Trained, answers: np.ndarray) -> Row:
    return {
        "slide": mine.name,
        **{key: getattr(mine, key) for key in ("patient", "split", "label")},
        **{name: float(value) for name, value in zip(trained.task.columns, answers, strict=True)},
        "recipe": trained.recipe_name,
        "encoder": trained.encoder,
        "seed": trained.seed,
        "fold": trained.fold,
        **({HELD_OUT: mine.held_out} if mine.held_out else {}),
        **_calibration(trained),
    }


def _calibration(trained: Trained) -> Row:
    """What makes a head's answers probabilities, and where its positive call begins; None: half."""
    found = trained.calibration
    return {
        "temperature": found.temperature if found else 1.0,
        "threshold": found.threshold if found else None,
    }


def _seen(
    head: nn.Module,
    trained: Trained,
    bag: Bag,
    applied: Applied,
    share: Float[np.ndarray, " tiles"] | None,
) -> Row:
    """What a test slide's metrics need besides its prediction."""
    selection = (
        selection_of(head, trained, bag, applied, share) if isinstance(head, SelectsTiles) else None
    )
    found = None if share is None else tile_auroc(applied.attention, share)
    return dict(zip(SEEN, (found, entropy_share(applied.attention), selection), strict=True))
