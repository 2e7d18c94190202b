"""Heads that a job trains: seed, fold and folder of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import DatasetError


class HeadRun(NamedTuple):
    """A head that a job trains: its seed, its fold, and its folder."""

    seed: int
    fold: int
    out: Path


def head_runs(folder: Path, seeds: Sequence[int], folds: Sequence[int]) -> list[HeadRun]:
    """Heads of each seed and fold.

    Folds come first: what the seeds of a fold share is computed once.

    Args:
        folder: Folder of each head, with {seed} and {fold} in its name.
        seeds: Random seeds; none: 1.
        folds: Numbers of the folds; none: 0.
    """
    return [
        HeadRun(seed, fold, _head_folder(folder, seed, fold))
        for fold in folds or [0]
        for seed in seeds or [1]
    ]


def _head_folder(out: Path, seed: int, fold: int) -> Path:
    """Folder of the head of a seed and a fold, which stand in braces in the pattern."""
    # Not `format`, for other braces in a path are its own.
    return Path(str(out).replace("{seed}", str(seed)).replace("{fold}", str(fold)))


def check_apart(runs: Sequence[HeadRun]) -> None:
    """Check that each head has a folder of its own.

    Raises:
        DatasetError: Two heads have one folder.
    """
    folders: dict[Path, HeadRun] = {}
    for head_run in runs:
        other = folders.setdefault(head_run.out.resolve(), head_run)
        if other is not head_run:
            raise DatasetError(
                f"--out: {head_run.out} would hold the heads of seed {other.seed} fold "
                f"{other.fold} and of seed {head_run.seed} fold {head_run.fold}; put {{seed}} and "
                "{fold} into its name"
            )
