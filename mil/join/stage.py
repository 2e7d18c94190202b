"""Bags of several folders in; one bag of each slide out, with the features of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.config.joined import MOST_ENCODERS
from mil.errors import DatasetError, FormatError
from mil.io.bags import read_bag, write_bag
from mil.io.bags.checks import check_slide
from mil.io.bags.file import FORMAT
from mil.io.bags.folder import slides_with_bags
from mil.io.bags.join import join_bags, joined_digest
from mil.io.h5 import check_replaceable
from mil.io.part_jobs import Output
from mil.io.provenance import digest_of
from mil.io.tables import read_dataset
from mil.io.tables.parts import Part


@dataclass(frozen=True)
class JoinJob:
    """Bags of a slide to join.

    Attributes:
        bags: Bags of the slide, from the finest tiles to the coarsest.
        out: File for the joined bag.
    """

    bags: tuple[Path, ...]
    out: Path

    @property
    def slide(self) -> str:
        """Id of the slide."""
        return self.out.stem

    def outputs(self) -> list[Output]:
        """The joined bag, with the digest of all bags."""
        for path in self.bags:
            if not path.exists():
                raise FormatError(
                    f"{path}: no such file, though another of the folders has a bag of "
                    f"{self.slide}; make it, or take the slide's other bags out of their folders"
                )
        bags = [joined_digest(path) for path in self.bags]
        return [Output(self.out, digest_of("join", bags=bags))]


def jobs_of_part(folders: Sequence[Path], out: Path, dataset: str, part: Part) -> list[JoinJob]:
    """Jobs for the slides of a part that have a bag in one of the folders.

    Args:
        folders: Folders of bags, from the finest tiles to the coarsest.
        out: Folder for the joined bags.
        dataset: Name of the dataset, or path of its yaml; empty: all bags of the folders.
        part: Part of the slides.

    Raises:
        DatasetError: There is one folder alone, or one is named twice; a folder holds no
            bag; or the slide table cannot be used.
    """
    if not 2 <= len(folders) <= MOST_ENCODERS:
        raise DatasetError(
            f"mil bags join: {len(folders)} folders of bags; give 2 to {MOST_ENCODERS}, from "
            "the finest tiles to the coarsest"
        )
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) != len(resolved) or out.resolve() in resolved:
        raise DatasetError(
            f"mil bags join: two of the folders, or one and --out ({out}), are the same; give "
            "another folder"
        )
    with_bag = {slide for folder in folders for slide in slides_with_bags(folder)}
    slides = sorted(with_bag)
    if dataset:
        slides = [row.slide for row in read_dataset(dataset)[1] if row.slide in with_bag]
    return [
        JoinJob(tuple(folder / f"{slide}.h5" for folder in folders), out / f"{slide}.h5")
        for slide in slides
        if part.holds(slide)
    ]


def join_slide(job: JoinJob, stale: Sequence[Output]) -> str:
    """Join the bags of a slide, and return a line about the bag."""
    # Before the work: something else may lie there.
    check_replaceable(job.out, FORMAT)
    bags = [read_bag(path) for path in job.bags]
    for bag, path in zip(bags, job.bags, strict=True):
        check_slide(bag, path)
    joined, without = join_bags(bags, job.bags)
    write_bag(job.out, joined, made_from=stale[0].digest)
    if joined.state != "ok":
        return f"{job.slide}: {joined.state}, nothing to join ({joined.reason})"
    tiles, dim = joined.features.shape
    line = f"{job.slide}: {tiles} tiles of {dim} numbers"
    lacking = [
        f"{number} lie in no tile of {bag.encoder} at {bag.tiling}"
        for number, bag in zip(without, bags[1:], strict=True)
        if number
    ]
    return f"{line}; {', '.join(lacking)}" if lacking else line
