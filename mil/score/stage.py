"""Heads of one recipe and bags in; a score file of each bag out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from mil.config.stages import Evidence
from mil.io.bags import Bag
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.patients import concatenate_bags, read_each
from mil.io.part_jobs import Output, SlideResult, run_jobs
from mil.io.probe import probe
from mil.io.scores import BagScores, HeadScores, ScoredBag, write_scores
from mil.score.heads import LoadedHead, loaded_heads
from mil.score.jobs import KnownJob, ScoreJob, check_apart
from mil.score.scores import scores_by
from mil.trained.compatibility import check_compatible, check_usable
from mil.trained.forward import tensors_of


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
    loaded = loaded_heads(heads, evidence)
    check_apart(jobs)
    probe([path for job in jobs for path in job.bags])
    checksums = [head.checksums for head in loaded]
    known = [KnownJob(job, checksums, evidence) for job in jobs]

    def make(job: KnownJob, stale: Sequence[Output]) -> str:
        return _score(loaded, job.job, stale[0].digest)

    yield from run_jobs("score", known, make, keep=keep)


def _score(heads: Sequence[LoadedHead], job: ScoreJob, made_from: str) -> str:
    # The digests first: a bag that is replaced meanwhile then shows as another one.
    digests = [bag_digest(path) for path in job.bags]
    bag, slides = _read(job)
    name = job.name or bag.slide
    scores = _apply(heads, bag, job.bags[0]) if bag.state == "ok" else ()
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
    if not scores:
        return f"{name}: {bag.state}, nothing to score"
    return f"{name}: {len(scores[0].attention)} tiles by {len(heads)} heads"


def _apply(heads: Sequence[LoadedHead], bag: Bag, path: Path) -> tuple[HeadScores, ...]:
    check_usable(bag, path)
    # All are checked before the first is applied: there is no score by some heads.
    for head in heads:
        check_compatible(head.trained, bag, path)
    # One copy in memory, which all heads share.
    tensors = tensors_of(bag)
    return tuple(scores_by(head, tensors, path) for head in heads)


def _read(job: ScoreJob) -> tuple[Bag, list[str]]:
    """The bag, and the slides that it is of."""
    parts = read_each(job.bags)
    name = job.name or parts[0].slide
    return concatenate_bags(parts, name), [part.slide for part in parts]
