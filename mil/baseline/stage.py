"""Bags and folds in; heads of a baseline, their scores and their metrics out, in one process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config.baseline import check_baseline
from mil.errors import MilError
from mil.evaluate import stage as evaluate
from mil.io.results import Metrics
from mil.score import stage as score
from mil.score.jobs import jobs_of_folder
from mil.train.runs import HeadRun
from mil.train.stage import run_all


class Inputs(NamedTuple):
    """What a baseline is made from.

    Attributes:
        dataset: Name or yaml of the dataset.
        bags_dir: Folder of the bags.
        folds: The folds.csv.
    """

    dataset: str
    bags_dir: Path
    folds: Path


def run(
    recipe: str,
    inputs: Inputs,
    runs: Sequence[HeadRun],
    scores_dir: Path,
    out: Path,
    *,
    threads: int,
    cache_mb: int,
    report: Callable[[str], object],
) -> Metrics:
    """Fit, score and evaluate a baseline, as `train`, `score` and `evaluate` would.

    A process for each of the three would spend most of its time on its start. Heads and
    scores that are current stay. There is no evidence of tiles and no localisation.

    Args:
        recipe: Recipe of a head that is fitted at once.
        inputs: Dataset, bags and folds.
        runs: Seed, fold and folder of each head.
        scores_dir: Folder for the scores of the bags that the folds name.
        out: Folder for predictions and metrics.
        threads: Number of CPU threads.
        cache_mb: Memory for bags, MiB.
        report: Called with a line for each step.

    Returns:
        Content of metrics.json.

    Raises:
        ConfigError: The recipe's head is trained in steps.
        MilError: A step cannot be done; see those of the three stages.
    """
    check_baseline(recipe)
    heads = run_all(
        inputs.dataset,
        inputs.bags_dir,
        inputs.folds,
        runs,
        recipe=recipe,
        threads=threads,
        device="cpu",
        cache_mb=cache_mb,
    )
    name = heads[0].recipe_name
    report(f"{name}: {len(heads)} fitted")
    jobs = jobs_of_folder(inputs.bags_dir, scores_dir, inputs.folds)
    folders = [head_run.out for head_run in runs]
    results = score.run(folders, jobs, threads=threads, keep=True, evidence="none")
    for result in results:
        # Without its scores there are no metrics.
        if result.failed:
            raise MilError(result.line)
    report(f"{name}: {len(jobs)} bags scored")
    return evaluate.run(
        inputs.dataset,
        scores_dir,
        inputs.bags_dir,
        inputs.folds,
        out,
        # Every tile has the same attention: where it goes is not asked.
        slides_dir=None,
    )
