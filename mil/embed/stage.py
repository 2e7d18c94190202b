"""Bags in; a vectors file of each slide out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mil.device import choose_device
from mil.embed.encoder import LoadedEncoder, load_encoder
from mil.errors import DatasetError
from mil.io.atomic import check_not_inputs
from mil.io.bags import read_bag
from mil.io.bags.checks import check_slide
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.folder import slides_with_bags
from mil.io.part_jobs import Output, SlideResult, run_jobs
from mil.io.probe import probe
from mil.io.provenance import digest_of
from mil.io.tables import read_dataset
from mil.io.tables.parts import Part
from mil.io.vectors import SlideVectors, VectorsHeader, write_vectors


class EmbedJob(NamedTuple):
    """A bag to embed, and the file for its vectors."""

    bag: Path
    out: Path


def run(
    slide_encoder: str,
    heads: Sequence[Path],
    jobs: Sequence[EmbedJob],
    *,
    threads: int,
    keep: bool = False,
    weights: Path | None = None,
    device: str = "cpu",
) -> Iterator[SlideResult]:
    """Embed each bag; a slide encoder is loaded once, each bag is read once.

    Args:
        slide_encoder: `mean`, `mean_std`, a published slide encoder, or the recipe of
            `heads`.
        heads: Folders of trained heads of one recipe: its seeds and folds.
        jobs: Bags, each with the file for its vectors, written whole or not at all.
        threads: Number of CPU threads.
        keep: Whether vectors stay that are of the same bag and slide encoder.
        weights: File of the weights of a published slide encoder; None: that of its entry.
        device: Device of a published slide encoder: `cpu`, `cuda`, or `auto`.

    Yields:
        A result for each bag. One that cannot be embedded stops no other.

    Raises:
        DatasetError: Heads, weights and slide encoder do not go together, or a bag would
            be replaced by vectors.
        FormatError: A head cannot be used.
        ConfigError: Weights of a published slide encoder cannot be had, or do not fit.
    """
    torch.set_num_threads(threads)
    encoder = load_encoder(slide_encoder, heads, weights, choose_device(device))
    check_not_inputs([job.out for job in jobs], [job.bag for job in jobs])
    probe([job.bag for job in jobs])
    facts = encoder.facts
    known = [_KnownJob(job, facts) for job in jobs]

    def make(job: _KnownJob, stale: Sequence[Output]) -> str:
        return _embed(encoder, job.job, stale[0].digest)

    yield from run_jobs("embed", known, make, keep=keep)


@dataclass(frozen=True)
class _KnownJob:
    """A bag to embed by a slide encoder that is known by its checksums."""

    job: EmbedJob
    facts: dict[str, Any]

    @property
    def slide(self) -> str:
        return self.job.bag.stem

    def outputs(self) -> list[Output]:
        digest = digest_of("embed", bag=bag_digest(self.job.bag), **self.facts)
        return [Output(self.job.out, digest)]


def jobs_of_part(dataset: str, bags_dir: Path, vectors_dir: Path, part: Part) -> list[EmbedJob]:
    """Jobs for the slides of a part of a dataset that have a bag.

    Args:
        dataset: Name of the dataset, or path of its yaml; empty: all bags of the folder.
        bags_dir: Folder of the bags.
        vectors_dir: Folder for the vectors.
        part: Part of the slides.

    Raises:
        DatasetError: The slide table cannot be used, or there is no bag in the folder.
    """
    if bags_dir.resolve() == vectors_dir.resolve():
        raise DatasetError(f"{vectors_dir}: holds the bags; choose another folder for --vectors")
    slides = slides_with_bags(bags_dir)
    if dataset:
        with_bag = set(slides)
        slides = [row.slide for row in read_dataset(dataset)[1] if row.slide in with_bag]
    return [
        EmbedJob(bags_dir / f"{slide}.h5", vectors_dir / f"{slide}.h5")
        for slide in slides
        if part.holds(slide)
    ]


def _embed(encoder: LoadedEncoder, job: EmbedJob, made_from: str) -> str:
    # The digest first: a bag that is replaced meanwhile then shows as another one.
    digest = bag_digest(job.bag)
    bag = read_bag(job.bag)
    check_slide(bag, job.bag)
    vectors = np.empty((0, 0), np.float32)
    line = f"{bag.slide}: {bag.state}, nothing to embed"
    if bag.state == "ok":
        vectors = encoder.vectors(bag, job.bag)
        line = f"{bag.slide}: {int(bag.valid.sum())} tiles to {vectors.shape[1]} numbers"
        line += f" by {len(encoder.heads)} heads" if encoder.heads else ""
    header = VectorsHeader(
        slide=bag.slide,
        slide_encoder=encoder.name,
        **bag.identity,
        bag_digest=digest,
        tiles=int(bag.valid.sum()),
        state=bag.state,
        reason=bag.reason,
        heads=tuple(each.fact for each in encoder.heads),
        **encoder.weights,
    )
    write_vectors(job.out, SlideVectors(header, vectors), made_from=made_from)
    return line
