"""Heads of one recipe and bags in; a score file of each bag out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from mil.bags import Bags
from mil.config.stages import Evidence
from mil.errors import DatasetError, FormatError
from mil.heads import Remover, SelectsTiles
from mil.io.atomic import check_not_inputs
from mil.io.bags import Bag
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.folder import slides_with_bags
from mil.io.bags.patients import concatenate_bags, read_each, read_fold_bags
from mil.io.part_jobs import Output, SlideResult, run_jobs
from mil.io.probe import probe
from mil.io.provenance import digest_of
from mil.io.scores import (
    BagScores,
    HeadScores,
    Outputs,
    ScoredBag,
    ScoringHead,
    score_path,
    write_scores,
)
from mil.io.tables import read_dataset
from mil.io.tables.parts import WHOLE, Part
from mil.score.flipping import flipped_by, flipped_logits
from mil.score.selection import with_other_selections
from mil.trained.ablation import ablation_of
from mil.trained.compatibility import check_compatible, check_usable
from mil.trained.evidence import evidence_of, remover_of
from mil.trained.folder import load_heads
from mil.trained.forward import forward, tensors_of
from mil.trained.record import FILES, RECORD, Trained


class ScoreJob(NamedTuple):
    """A bag to score, and the file for its scores."""

    # Slide or patient; None: as the bag calls itself.
    name: str | None
    # Bag files, laid end to end if several: those of a patient's slides.
    bags: tuple[Path, ...]
    out: Path


class _LoadedHead(NamedTuple):
    """A head in memory, with its weights of the last epoch where those were kept."""

    files: ScoringHead
    trained: Trained
    head: nn.Module
    last: nn.Module | None
    # None: the head cannot remove tiles.
    remover: Remover | None
    # Whether the evidence of tiles is computed.
    has_evidence: bool


def run(
    heads: Sequence[Path],
    jobs: Sequence[ScoreJob],
    *,
    threads: int,
    keep: bool = False,
    evidence: Evidence = "all",
) -> Iterator[SlideResult]:
    """Apply all heads to each bag; heads are loaded once, each bag is read once.

    Args:
        heads: Folders of trained heads of one recipe: its seeds and folds.
        jobs: Bags, each with the file for its scores, written whole or not at all.
        threads: Number of CPU threads.
        keep: Whether scores stay that are of the same bag and heads.
        evidence: Evidence of tiles to add; `exact`: of heads that can remove tiles alone.

    Yields:
        A result for each bag. One that cannot be scored stops no other.

    Raises:
        DatasetError: no head is given, one is given twice, heads are of several recipes,
            two bags have one file for their scores, or a bag would be replaced by scores.
        FormatError: a head cannot be used.
    """
    torch.set_num_threads(threads)
    loaded = _load(heads, evidence)
    _check_apart(jobs)
    probe([path for job in jobs for path in job.bags])
    identity = [_identity(head.files) for head in loaded]
    known = [_KnownJob(job, identity, evidence) for job in jobs]

    def make(job: _KnownJob, stale: Sequence[Output]) -> str:
        return _score(loaded, job.job, stale[0].digest)

    yield from run_jobs("score", known, make, keep=keep)


def _identity(head: ScoringHead) -> list[str]:
    """What scores of a head depend on: its weights, and its record.

    The record holds calibration, threshold and class of interest, which change where the
    weights do not.
    """
    return [sha256(head.record.encode()).hexdigest(), head.sha256, head.last_sha256]


@dataclass(frozen=True)
class _KnownJob:
    """A bag to score by heads that are known by checksums of record and weights."""

    job: ScoreJob
    heads: list[list[str]]
    evidence: Evidence = "all"

    @property
    def slide(self) -> str:
        return self.job.name or self.job.bags[0].stem

    def outputs(self) -> list[Output]:
        digests = [bag_digest(path) for path in self.job.bags]
        name = self.job.name
        # Scores with all evidence are those of before the setting.
        evidence = {} if self.evidence == "all" else {"evidence": self.evidence}
        digest = digest_of("score", name=name, heads=self.heads, bags=digests, **evidence)
        return [Output(self.job.out, digest)]


def jobs_of_folder(
    bags_dir: Path, scores_dir: Path, folds: Path | None, part: Part = WHOLE
) -> list[ScoreJob]:
    """Jobs for all bags of a folder, or for those that a folds file names.

    Args:
        bags_dir: Folder of the bags.
        scores_dir: Folder for the scores.
        folds: A folds.csv, whose bags are slides or, with early fusion, patients; None:
            every bag of the folder, each a slide.
        part: Part of them, by their names.

    Raises:
        DatasetError: there is no bag in the folder.
        FormatError: the folds file cannot be used.
    """
    if folds is None:
        members: dict[str, tuple[str, ...]] = {
            slide: (slide,) for slide in slides_with_bags(bags_dir)
        }
    else:
        members = {bag.name: bag.slides for bag in read_fold_bags(folds)}
    return [
        ScoreJob(
            name,
            tuple(bags_dir / f"{slide}.h5" for slide in slides),
            score_path(scores_dir, name),
        )
        for name, slides in members.items()
        if part.holds(name)
    ]


def jobs_of_part(dataset: str, bags_dir: Path, scores_dir: Path, part: Part) -> list[ScoreJob]:
    """Jobs for the slides of a part of a dataset that have a bag.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        bags_dir: Folder of the bags.
        scores_dir: Folder for the scores.
        part: Part of the dataset.

    Raises:
        DatasetError: The slide table cannot be used, or there is no bag in the folder.
    """
    _, table = read_dataset(dataset)
    with_bag = set(slides_with_bags(bags_dir))
    return [
        ScoreJob(row.slide, (bags_dir / f"{row.slide}.h5",), score_path(scores_dir, row.slide))
        for row in table
        if part.holds(row.slide) and row.slide in with_bag
    ]


def _check_apart(jobs: Sequence[ScoreJob]) -> None:
    files: dict[Path, ScoreJob] = {}
    for job in jobs:
        other = files.setdefault(job.out.resolve(), job)
        if other is not job:
            raise DatasetError(
                f"{job.out}: would hold the scores of {other.bags[0]} and of {job.bags[0]}; give "
                "each its own file"
            )
    check_not_inputs([job.out for job in jobs], [path for job in jobs for path in job.bags])


def _load(folders: Sequence[Path], evidence: Evidence) -> list[_LoadedHead]:
    """Load the heads; the last epoch takes part only if all heads have its weights."""
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        # In a mean, and in a count of trainings, it would weigh double.
        if places.count(place) > 1:
            raise DatasetError(f"{folder}: this head is given twice; give it once")
    kept = load_heads(folders)
    last: Sequence[nn.Module | None] = [None] * len(kept)
    # Imported heads have no last epoch.
    if all((folder / FILES["last"]).exists() for folder in folders):
        last = [head for head, _ in load_heads(folders, "last")]
    loaded = []
    for folder, (head, trained), head_of_last in zip(folders, kept, last, strict=True):
        files = _files(folder, with_last=head_of_last is not None)
        remover = None if evidence == "none" else remover_of(head)
        has_evidence = evidence == "all" or remover is not None
        loaded.append(_LoadedHead(files, trained, head, head_of_last, remover, has_evidence))
    return loaded


def _files(folder: Path, *, with_last: bool) -> ScoringHead:
    return ScoringHead(
        record=(folder / RECORD).read_text(encoding="utf-8"),
        sha256=_sha256(folder / FILES["kept"]),
        last_sha256=_sha256(folder / FILES["last"]) if with_last else "",
    )


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _score(heads: Sequence[_LoadedHead], job: ScoreJob, made_from: str) -> str:
    # The digests first: a bag that is replaced meanwhile then shows as another one.
    digests = [bag_digest(path) for path in job.bags]
    bag, slides = _read(job)
    name = job.name or bag.slide
    if bag.state == "ok":
        check_usable(bag, job.bags[0])
        # All are checked before the first is applied: there is no score by some heads.
        for head in heads:
            check_compatible(head.trained, bag, job.bags[0])
        # One copy in memory, which all heads share.
        tensors = tensors_of(bag)
        scores = tuple(_score_by(head, tensors, job.bags[0]) for head in heads)
        line = f"{name}: {len(tensors.features)} tiles by {len(heads)} heads"
    else:
        scores = ()
        line = f"{name}: {bag.state}, nothing to score"
    write_scores(
        job.out,
        BagScores(
            name=name,
            state=bag.state,
            reason=bag.reason,
            bags=tuple(map(ScoredBag, slides, digests)),
            heads=tuple(head.files for head in heads),
            scores=scores,
        ),
        made_from=made_from,
    )
    return line


def _read(job: ScoreJob) -> tuple[Bag, list[str]]:
    """The bag, and the slides that it is of."""
    parts = read_each(job.bags)
    name = job.name or parts[0].slide
    return concatenate_bags(parts, name), [part.slide for part in parts]


def _score_by(head: _LoadedHead, bags: Bags, path: Path) -> HeadScores:
    scores = forward(head.head, head.trained, bags)
    # Weights and features may be finite, and the predictions overflow all the same.
    _check_finite(head.trained, path, scores.predictions, scores.attention)
    if scores.rollout is not None:
        _check_finite(head.trained, path, scores.rollout)
    scores = replace(scores, ablation=ablation_of(head.head, bags))
    if scores.ablation is not None:
        _check_finite(head.trained, path, scores.ablation.logits)
    if isinstance(head.head, SelectsTiles):
        scores = with_other_selections(head.head, head.trained, bags, scores)
    if head.has_evidence:
        scores = _with_evidence(head, bags, scores, path)
    if head.last is None:
        return scores
    # The calibration was fitted to the kept epoch.
    uncalibrated = head.trained.model_copy(update={"calibration": None})
    last = forward(head.last, uncalibrated, bags)
    return replace(scores, last=Outputs(last.logits, last.predictions))


def _with_evidence(head: _LoadedHead, bags: Bags, scores: HeadScores, path: Path) -> HeadScores:
    """Add the evidence of each tile, and patch flipping by it."""
    removals, evidence = evidence_of(head.head, head.remover, bags)
    _check_finite(head.trained, path, evidence.alone, evidence.effect)
    scores = replace(scores, evidence=evidence)
    flipped = flipped_logits(removals, head.trained, scores)
    _check_finite(head.trained, path, flipped[~np.isnan(flipped)])
    by_rollout = flipped_by("rollout", removals, head.trained, scores)
    if by_rollout is not None:
        _check_finite(head.trained, path, by_rollout[~np.isnan(by_rollout)])
    return replace(scores, flipped_logits=flipped, flipped_rollout=by_rollout)


def _check_finite(trained: Trained, bag: Path, *values: np.ndarray) -> None:
    """Refuse scores that overflowed."""
    if not all(np.isfinite(numbers).all() for numbers in values):
        raise FormatError(
            f"{bag}: {trained.recipe_name} seed {trained.seed} fold {trained.fold} predicts no "
            "number for it, since its training diverged; train it again, with a lower train.lr"
        )
