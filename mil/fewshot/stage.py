"""Vectors of slides and folds in; few-shot curves as a table and as a figure out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mil.errors import DatasetError
from mil.fewshot.curves import FoldVectors, curve
from mil.fewshot.figure import write_figure
from mil.io.bags.patients import FoldBag, check_labels, read_fold_bags
from mil.io.fewshot import TABLE, Curve, write_curves
from mil.io.probe import probe
from mil.io.tables import read_dataset
from mil.io.vectors import SlideVectors, read_vectors
from mil.tasks import task_of

FIGURE = "fewshot.svg"
SHOTS = tuple(2**power for power in range(10))


def run(
    dataset: str,
    vectors: Sequence[Path],
    folds: Path,
    out: Path,
    *,
    draws: int,
    seed: int,
    allow_empty: bool = False,
) -> list[str]:
    """Write the curves of some folders of vectors.

    Folds that lack slides of a class to train or to test on are left out.

    Args:
        dataset: Name or yaml file of the dataset.
        vectors: Folders that `mil embed` wrote, a curve each.
        folds: File of the folds: slides are drawn from those to train, and tested on
            those to test.
        out: Folder for the table and the figure.
        draws: Number of draws of each number of slides.
        seed: Random seed of the draws.
        allow_empty: Whether a table without curves is written where every fold lacks a
            class.

    Returns:
        A line for each curve, and for each fold that is left out.

    Raises:
        DatasetError: The task has no classes, or every fold lacks one.
        FormatError: A slide has no vectors, or a file cannot be used.
    """
    config, _ = read_dataset(dataset)
    task = task_of(config)
    if not task.one_of_classes:
        raise DatasetError(
            f"dataset {dataset}: few slides of each class need classes, which the task "
            f"{config.task} does not have"
        )
    classes = list(config.classes)
    bags = read_fold_bags(folds)
    check_labels(bags, folds, config.task, config.classes)
    # The class of interest is the second, whose probability is ranked.
    if len(classes) == 2 and config.positive_class == classes[0]:
        classes.reverse()
    usable, lines = _usable_folds(bags, classes)
    if not (usable or allow_empty):
        raise DatasetError(
            f"{folds}: every fold lacks slides of a class ({lines[0]}); divide into fewer folds, "
            "or by another column"
        )
    curves: dict[str, Curve] = {}
    for folder in vectors if usable else ():
        by_slide = _read(folder, bags)
        header = next(iter(by_slide.values())).header
        name = f"{header.slide_encoder} · {header.encoder}"
        if name in curves:
            raise DatasetError(f"{folder}: a second folder of {name}; give each once")
        of_folds = [_fold_vectors(by_slide, of_fold, classes, folds) for of_fold in usable]
        points = curve(of_folds, len(classes), shots=SHOTS, draws=draws, seed=seed)
        curves[name] = Curve(points, learned=bool(header.heads))
        lines.append(_line(name, curves[name]))
    write_figure(curves, out / FIGURE)
    write_curves(out / TABLE, curves)
    return lines


def _usable_folds(
    bags: Sequence[FoldBag], classes: Sequence[str]
) -> tuple[list[list[FoldBag]], list[str]]:
    """Bags of each fold with slides of every class, and a line for each other fold."""
    usable = []
    lines = []
    for fold in sorted({bag.fold for bag in bags}):
        of_fold = [bag for bag in bags if bag.fold == fold]
        lacking = _lacking(of_fold, classes)
        if lacking:
            lines.append(f"fold {fold} has {lacking} and is left out")
        else:
            usable.append(of_fold)
    return usable, lines


def _lacking(bags: Sequence[FoldBag], classes: Sequence[str]) -> str:
    """What a fold lacks to be trained and tested on; empty: nothing."""
    for split in ("train", "test"):
        present = len({bag.label for bag in bags if bag.split == split})
        if present < len(classes):
            return f"{split} slides of {present} of {len(classes)} classes"
    return ""


def _read(folder: Path, bags: Sequence[FoldBag]) -> dict[str, SlideVectors]:
    slides = dict.fromkeys(slide for bag in bags for slide in bag.slides)
    paths = {slide: folder / f"{slide}.h5" for slide in slides}
    probe(list(paths.values()))
    return {slide: read_vectors(path) for slide, path in paths.items()}


def _fold_vectors(
    by_slide: dict[str, SlideVectors], bags: Sequence[FoldBag], classes: Sequence[str], folds: Path
) -> FoldVectors:
    """Vectors of one fold: of a slide encoder that is learned, by the fold's first head."""
    fold = bags[0].fold
    header = next(iter(by_slide.values())).header
    numbers = [number for number, head in enumerate(header.heads) if head.fold == fold]
    if header.heads and not numbers:
        raise DatasetError(f"{folds}: no vector is by a head of fold {fold}; embed by its heads")
    number = numbers[0] if numbers else 0
    rows: dict[str, list[tuple[np.ndarray, int, str]]] = {"train": [], "val": [], "test": []}
    for bag in bags:
        for slide in bag.slides:
            vector = by_slide[slide].vector(number).astype(np.float64)
            rows[bag.split].append((vector, classes.index(bag.label), bag.patient))
    labels = {split: np.array([label for _, label, _ in part]) for split, part in rows.items()}
    return FoldVectors(
        np.stack([vector for vector, _, _ in rows["train"]]),
        labels["train"],
        [patient for _, _, patient in rows["train"]],
        np.stack([vector for vector, _, _ in rows["test"]]),
        labels["test"],
    )


def _line(name: str, curve: Curve) -> str:
    points = curve.points
    listed = ", ".join(f"{point.shots}: {point.mean:.3f} ± {point.sd:.3f}" for point in points)
    seen = "; its heads have seen the labels of all training slides" if curve.learned else ""
    return f"{name}: AUROC by slides of each class {listed or 'none: too few patients'}{seen}"
