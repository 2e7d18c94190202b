"""Bags to score, and the files for their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mil.config.stages import Evidence
from mil.errors import DatasetError
from mil.io.atomic import check_not_inputs
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.folder import slides_with_bags
from mil.io.bags.patients import read_fold_bags
from mil.io.part_jobs import Output
from mil.io.provenance import digest_of
from mil.io.scores import score_path
from mil.io.tables import read_dataset
from mil.io.tables.parts import WHOLE, Part


class ScoreJob(NamedTuple):
    """A bag to score, and the file for its scores."""

    # Slide or patient; None: as the bag calls itself.
    name: str | None
    # Bag files, laid end to end if several: those of a patient's slides.
    bags: tuple[Path, ...]
    out: Path


@dataclass(frozen=True)
class KnownJob:
    """A bag to score by heads that are known by checksums of record and weights.

    Attributes:
        job: The bag, and the file for its scores.
        heads: Checksums of each head.
        evidence: Evidence of tiles that the scores have.
    """

    job: ScoreJob
    heads: list[list[str]]
    evidence: Evidence = "all"

    @property
    def slide(self) -> str:
        """Name of the bag."""
        return self.job.name or self.job.bags[0].stem

    def outputs(self) -> list[Output]:
        """The score file, and the digest of what it depends on."""
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


def check_apart(jobs: Sequence[ScoreJob]) -> None:
    """Refuse jobs whose scores would replace those of another one, or a bag.

    Raises:
        DatasetError: two have one file for their scores, or a bag is such a file.
    """
    files: dict[Path, ScoreJob] = {}
    for job in jobs:
        other = files.setdefault(job.out.resolve(), job)
        if other is not job:
            raise DatasetError(
                f"{job.out}: would hold the scores of {other.bags[0]} and of {job.bags[0]}; give "
                "each its own file"
            )
    check_not_inputs([job.out for job in jobs], [path for job in jobs for path in job.bags])
