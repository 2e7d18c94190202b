"""Scores and labels in; predictions and metrics of slides and patients out. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.config import dataset_path
from mil.config.stages import Ablate
from mil.errors import DatasetError, FormatError
from mil.evaluate.annotations import SlideAnnotations
from mil.evaluate.attention import attended_slide
from mil.evaluate.branches import AblatedHeads
from mil.evaluate.localise import hottest_tile_hit, tile_auroc
from mil.evaluate.mapped import MappedSlides, ScoredHead
from mil.evaluate.maps import metrics_of_maps
from mil.evaluate.rows import AttendedSlide, EvaluatedSlide, by_run
from mil.evaluate.selection import selection_of
from mil.evaluate.subgroups import by_patient
from mil.evaluate.summary import metrics_of
from mil.io.bags.patients import (
    FoldBag,
    check_labels,
    check_labels_of_table,
    digest_of_seen,
    read_fold_bags,
)
from mil.io.probe import probe
from mil.io.results import Metrics, Prediction, write_evaluation
from mil.io.scores import (
    BagScores,
    HeadScores,
    ScoringHead,
    check_bags,
    check_tiles,
    read_scores,
    score_path,
)
from mil.io.tables import Slide, read_dataset
from mil.progress import progress
from mil.statistics.attention import entropy_share
from mil.trained.record import Trained, read_records

BagsByFold = Mapping[tuple[int, str], FoldBag]  # by fold and name of the bag


class _Rows(NamedTuple):
    """Rows of the predictions, by the kept epochs' weights and by the last epochs'.

    Also the test slides under the attention of all their heads.
    """

    kept: list[EvaluatedSlide]
    last: list[EvaluatedSlide]
    attended: list[AttendedSlide]


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
    bags = {(bag.fold, bag.name): bag for bag in read_fold_bags(folds)}
    slides_of = {bag.name: bag.slides for bag in sorted(bags.values(), key=lambda bag: bag.name)}
    probe([score_path(scores_dir, name) for name in slides_of])
    probe([path for bag in bags.values() for path in bag.paths(bags_dir)])
    # Records are parsed once: a study has as many copies of them as slides.
    heads = _heads_of(scores_dir, slides_of)
    records = read_records([head.record for head in heads], scores_dir)
    _check_one_head_a_run(records, scores_dir)
    _check_folds(bags, records, folds, dataset_path(dataset).stem)
    settings, slides = read_dataset(dataset)
    check_labels_of_table(bags.values(), folds, slides)
    annotations = SlideAnnotations.locate(settings, slides, slides_dir)
    mapped = MappedSlides.of(annotations, bags_dir)
    folds_of = _folds_of(bags)
    rows = _Rows([], [], [])
    ablated = AblatedHeads(bags_dir)
    with progress("evaluate", len(slides_of), "slides") as advance:
        for name, members in slides_of.items():
            paths = [bags_dir / f"{member}.h5" for member in members]
            evidence = mapped.needs_evidence(folds_of[name])
            is_test = any(bag.split == "test" for bag in folds_of[name])
            branches = ablate == "branches" and is_test
            scores = _read(scores_dir, name, heads, paths, evidence=evidence, branches=branches)
            annotated = annotations.annotated(bags_dir, name, members)
            share = annotations.share_of(name, annotated)
            if share is not None:
                check_tiles(scores, score_path(scores_dir, name), len(share))
            _add_rows(rows, scores, records, bags, share)
            scored = _scored_heads(scores, records, bags)
            mapped.add(scored, annotated, share)
            if branches:
                ablated.add(scored, share)
            advance(1)
    rows.kept.sort(key=lambda row: (row.seed, row.fold, row.slide))
    metrics = metrics_of(
        rows.kept,
        records[0],
        _columns(slides, slides_of),
        rows.last,
        rows.attended,
        [record.calibration for record in records],
        annotations.notes(records[0].task, rows.attended),
        metrics_of_maps(mapped, records[0].task.evidence_unit),
        ablated.metrics(),
    )
    patients: list[Prediction] = []
    for of_run in by_run(rows.kept).values():
        patients += by_patient(of_run)
    write_evaluation(out, metrics, rows.kept, patients, ablated.rows())
    return metrics


def _heads_of(scores_dir: Path, names: Mapping[str, Sequence[str]]) -> tuple[ScoringHead, ...]:
    """The heads of the first score file, by which all others must be too."""
    return _existing(scores_dir, next(iter(names))).heads


def _folds_of(bags: BagsByFold) -> dict[str, list[FoldBag]]:
    """The bag in each fold that has it, by name."""
    by_name: dict[str, list[FoldBag]] = {}
    for (_, name), bag in bags.items():
        by_name.setdefault(name, []).append(bag)
    return by_name


def _existing(
    scores_dir: Path, name: str, *, evidence: bool = False, branches: bool = False
) -> BagScores:
    path = score_path(scores_dir, name)
    if not path.exists():
        raise FormatError(
            f"{path}: no such file, so that {name} has no scores; run `mil score` for it, or for "
            "all bags with --bags, --folds and --scores"
        )
    return read_scores(path, evidence=evidence, branches=branches)


def _read(
    scores_dir: Path,
    name: str,
    heads: tuple[ScoringHead, ...],
    bag_paths: Sequence[Path],
    *,
    evidence: bool,
    branches: bool,
) -> BagScores:
    """The scores of a bag, which must be of these bag files and by these heads."""
    scores = _existing(scores_dir, name, evidence=evidence, branches=branches)
    path = score_path(scores_dir, name)
    if scores.name != name:
        raise FormatError(
            f"{path}: holds the scores of {scores.name}, not of {name}; delete it and run `mil "
            "score` again"
        )
    # A score that is older than its bag has the attention of other tiles.
    check_bags(scores, path, bag_paths)
    if scores.state != "ok":
        raise FormatError(
            f"{path}: {name} has no scores (its state is {scores.state}); run `mil split` again, "
            "which leaves such slides out, or take its slide out of the slide table"
        )
    if scores.heads != heads:
        raise FormatError(
            f"{path}: is by other heads than the other scores of {scores_dir}; delete that folder "
            "and run `mil score` again"
        )
    return scores


def _add_rows(
    rows: _Rows,
    scores: BagScores,
    records: Sequence[Trained],
    bags: BagsByFold,
    share: Float[np.ndarray, " tiles"] | None,
) -> None:
    """Add a row for each head whose fold has the bag; of a test slide its ensemble too."""
    attention = []
    # Folds of other tools may leave bags out.
    for trained, head_scores in zip(records, scores.scores, strict=True):
        bag = bags.get((trained.fold, scores.name))
        if bag is None:
            continue
        row = _row(bag, trained, head_scores.predictions)
        # Metrics are of test slides: attention to slides that a head has seen says
        # nothing about others.
        if bag.split == "test":
            attention.append(head_scores.attention)
            row = _with_attention(row, head_scores, share)
            if trained.calibration is not None:
                uncalibrated = trained.task.predictions(head_scores.logits[None])[0]
                row = replace(row, uncalibrated=_by_column(trained, uncalibrated))
            if head_scores.last is not None:
                # What validation says is of the kept epoch, not of the last.
                bare = trained.model_copy(update={"calibration": None})
                rows.last.append(_row(bag, bare, head_scores.last.predictions))
        rows.kept.append(row)
    if attention:
        rows.attended.append(attended_slide(rows.kept[-1], attention, share))


def _scored_heads(
    scores: BagScores, records: Sequence[Trained], bags: BagsByFold
) -> list[ScoredHead]:
    """The heads whose fold has the bag."""
    return [
        ScoredHead(record, head_scores, bags[record.fold, scores.name])
        for record, head_scores in zip(records, scores.scores, strict=True)
        if (record.fold, scores.name) in bags
    ]


def _check_folds(bags: BagsByFold, records: Sequence[Trained], folds: Path, dataset: str) -> None:
    """Refuse heads whose fold is not in the file, or divides the slides otherwise."""
    for trained in records:
        in_fold = [bag for (fold, _), bag in bags.items() if fold == trained.fold]
        if not in_fold:
            raise DatasetError(
                f"{folds}: has no fold {trained.fold}, which {trained.recipe_name} was trained on"
            )
        # Labels of training slides were checked when the head was trained.
        test = [bag for bag in in_fold if bag.split == "test"]
        check_labels(test, folds, trained.task.kind, trained.classes)
        # Heads of other datasets, and imported ones, say nothing about these slides.
        seen = digest_of_seen(in_fold)
        if trained.dataset == dataset and None not in (seen, trained.seen) and seen != trained.seen:
            raise DatasetError(
                f"{folds}: fold {trained.fold} trains and validates on other slides than those "
                f"{trained.recipe_name} seed {trained.seed} was trained with, which may be in its "
                "test; give the folds of that training, or train again"
            )


def _check_one_head_a_run(records: Sequence[Trained], scores_dir: Path) -> None:
    """Refuse two heads of one seed and fold: their slides would count twice in one run."""
    runs = [(trained.seed, trained.fold) for trained in records]
    for seed, fold in runs:
        if runs.count((seed, fold)) > 1:
            raise DatasetError(
                f"{scores_dir}: has scores by several heads of seed {seed}, fold {fold}, which "
                "would count as one; score one of them, into another folder"
            )


def _columns(
    slides: Sequence[Slide], slides_of: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    """Further columns of the slide table, by bag; empty where its slides differ."""
    names = dict.fromkeys(name for slide in slides for name in slide.subgroups)
    subgroups = {slide.slide: slide.subgroups for slide in slides}

    def value(name: str, members: Sequence[str]) -> str:
        values = {subgroups[slide].get(name, "") for slide in members if slide in subgroups}
        return values.pop() if len(values) == 1 else ""

    return {
        name: {bag: value(name, members) for bag, members in slides_of.items()} for name in names
    }


def _row(
    bag: FoldBag, trained: Trained, predictions: Float[np.ndarray, " columns"]
) -> EvaluatedSlide:
    """Predictions of a bag in its fold by one head."""
    calibration = trained.calibration
    return EvaluatedSlide(
        slide=bag.name,
        patient=bag.patient,
        split=bag.split,
        label=bag.label,
        predictions=_by_column(trained, predictions),
        recipe=trained.recipe_name,
        encoder=trained.encoder,
        seed=trained.seed,
        fold=trained.fold,
        temperature=1.0 if calibration is None else calibration.temperature,
        threshold=None if calibration is None else calibration.threshold,
        held_out=bag.held_out,
    )


def _by_column(trained: Trained, predictions: Float[np.ndarray, " columns"]) -> dict[str, float]:
    columns = trained.task.columns
    return {name: float(value) for name, value in zip(columns, predictions, strict=True)}


def _with_attention(
    row: EvaluatedSlide, scores: HeadScores, share: Float[np.ndarray, " tiles"] | None
) -> EvaluatedSlide:
    """Row with what the metrics of a test slide need besides its prediction."""
    auroc = None if share is None else tile_auroc(scores.attention, share)
    hit = None
    if share is not None and auroc is not None:
        hit = hottest_tile_hit(scores.attention, share)
    return replace(
        row,
        tile_auroc=auroc,
        hottest_tile_hit=hit,
        attention_entropy_share=entropy_share(scores.attention),
        selection=selection_of(scores, share),
    )
