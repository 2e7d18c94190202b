"""Scores and labels in; predictions and metrics of slides and patients out. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config import dataset_path
from mil.config.stages import Ablate
from mil.evaluate.annotations import SlideAnnotations
from mil.evaluate.branches import AblatedHeads
from mil.evaluate.checks import check_folds, check_one_head_a_run
from mil.evaluate.mapped import MappedSlides, ScoredHead
from mil.evaluate.maps import metrics_of_maps
from mil.evaluate.predictions import SlidePredictions
from mil.evaluate.rows import by_run
from mil.evaluate.score_files import ScoreFiles
from mil.evaluate.subgroups import by_patient
from mil.evaluate.summary import metrics_of
from mil.io.bags.patients import FoldBag, check_labels_of_table, read_fold_bags
from mil.io.probe import probe
from mil.io.results import Metrics, Prediction, write_evaluation
from mil.io.scores import BagScores, check_tiles, score_path
from mil.io.tables import Slide, read_dataset
from mil.progress import progress
from mil.trained.record import Trained

FoldBags = Mapping[str, Sequence[FoldBag]]  # a bag in each fold that has it, by its name


class _Evaluated(NamedTuple):
    """What is kept of the scores of all bags."""

    predictions: SlidePredictions
    mapped: MappedSlides
    ablated: AblatedHeads


def run(
    dataset: str,
    scores_dir: Path,
    bags_dir: Path,
    folds: Path,
    out: Path,
    *,
    slides_dir: Path | None,
    ablate: Ablate = "none",
) -> Metrics:
    """Evaluate the heads of one recipe (its seeds and folds) from the scores of all slides.

    Args:
        dataset: Name or yaml of the dataset.
        scores_dir: Folder of the score files of all bags that `folds` names.
        bags_dir: Folder of the bags, which say where tiles are; features are not read.
        folds: The folds.csv.
        out: Folder for predictions.csv, predictions_patients.csv and metrics.json.
        slides_dir: Folder in which annotations are looked for; None: they are left out.
        ablate: `branches`: each branch of heads with several is left out, one at a time.

    Returns:
        Content of metrics.json.

    Raises:
        DatasetError: a fold of a head is not in `folds`, or has other training and
            validation slides there than the head was trained with; or `folds` and the
            slide table differ in a label.
        FormatError: a file cannot be used, or scores are of other bags or heads.
    """
    bags = read_fold_bags(folds)
    bags_by_name = _by_name(bags)
    probe([score_path(scores_dir, name) for name in bags_by_name])
    probe([path for bag in bags for path in bag.paths(bags_dir)])
    files = ScoreFiles.of(scores_dir, next(iter(bags_by_name)))
    check_one_head_a_run(files.records, scores_dir)
    check_folds(bags, files.records, folds, dataset_path(dataset).stem)
    settings, slides = read_dataset(dataset)
    check_labels_of_table(bags, folds, slides)
    annotations = SlideAnnotations.locate(settings, slides, slides_dir)
    evaluated = _evaluate(bags_by_name, files, bags_dir, annotations, ablate)
    metrics = _metrics(evaluated, files.records, annotations, _columns(slides, bags_by_name))
    rows = evaluated.predictions.kept
    patients: list[Prediction] = []
    for of_run in by_run(rows).values():
        patients += by_patient(of_run)
    write_evaluation(out, metrics, rows, patients, evaluated.ablated.rows())
    return metrics


def _by_name(bags: Sequence[FoldBag]) -> FoldBags:
    by_name: dict[str, list[FoldBag]] = {}
    for bag in sorted(bags, key=lambda bag: bag.name):
        by_name.setdefault(bag.name, []).append(bag)
    return by_name


def _evaluate(
    bags_by_name: FoldBags,
    files: ScoreFiles,
    bags_dir: Path,
    annotations: SlideAnnotations,
    ablate: Ablate,
) -> _Evaluated:
    """Read the scores of each bag, and keep what metrics need of them."""
    predictions = SlidePredictions()
    mapped = MappedSlides.of(annotations, bags_dir)
    ablated = AblatedHeads(bags_dir)
    with progress("evaluate", len(bags_by_name), "slides") as advance:
        for name, bags in bags_by_name.items():
            is_test = any(bag.split == "test" for bag in bags)
            branches = ablate == "branches" and is_test
            evidence = mapped.needs_evidence(bags)
            # Folds differ in the split of a bag, not in its slides.
            of_bag = bags[-1]
            scores = files.read(name, of_bag.paths(bags_dir), evidence=evidence, branches=branches)
            annotated = annotations.annotated(bags_dir, name, of_bag.slides)
            share = annotations.share_of(name, annotated)
            if share is not None:
                check_tiles(scores, files.path(name), len(share))
            heads = _scored_heads(scores, files.records, bags)
            predictions.add(heads, share)
            mapped.add(heads, annotated, share)
            if branches:
                ablated.add(heads, share)
            advance(1)
    predictions.sort()
    return _Evaluated(predictions, mapped, ablated)


def _scored_heads(
    scores: BagScores, records: Sequence[Trained], bags: Sequence[FoldBag]
) -> list[ScoredHead]:
    """The heads whose fold has the bag: folds of other tools may leave bags out."""
    by_fold = {bag.fold: bag for bag in bags}
    return [
        ScoredHead(record, head_scores, by_fold[record.fold])
        for record, head_scores in zip(records, scores.scores, strict=True)
        if record.fold in by_fold
    ]


def _metrics(
    evaluated: _Evaluated,
    records: Sequence[Trained],
    annotations: SlideAnnotations,
    columns: Mapping[str, Mapping[str, str]],
) -> Metrics:
    task = records[0].task
    predictions = evaluated.predictions
    return metrics_of(
        predictions.kept,
        records[0],
        columns,
        last=predictions.last,
        attended=predictions.attended,
        calibrations=[record.calibration for record in records],
        annotations=annotations.notes(task, predictions.attended),
        maps=metrics_of_maps(evaluated.mapped, task.evidence_unit),
        branches=evaluated.ablated.metrics(),
    )


def _columns(slides: Sequence[Slide], bags_by_name: FoldBags) -> dict[str, dict[str, str]]:
    """Further columns of the slide table, by bag; empty where its slides differ."""
    names = dict.fromkeys(name for slide in slides for name in slide.subgroups)
    subgroups = {slide.slide: slide.subgroups for slide in slides}

    def value(name: str, members: Sequence[str]) -> str:
        values = {subgroups[slide].get(name, "") for slide in members if slide in subgroups}
        return values.pop() if len(values) == 1 else ""

    return {
        name: {bag: value(name, in_folds[-1].slides) for bag, in_folds in bags_by_name.items()}
        for name in names
    }
