"""Heads and bags to metrics and heatmaps in one call, through the score files between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mil.errors import FormatError
from mil.evaluate import stage as evaluate_stage
from mil.heatmap import stage as heatmap_stage
from mil.score.jobs import ScoreJob, jobs_of_folder
from mil.score.stage import run


def score_all(heads: Sequence[Path], jobs: Sequence[ScoreJob]) -> None:
    """Score bags; the first that cannot be scored is an error."""
    for result in list(run(heads, jobs, threads=1)):
        if result.failed:
            raise FormatError(result.line)


def evaluate(
    dataset: str,
    heads: Sequence[Path],
    bags: Path,
    folds: Path,
    out: Path,
    *,
    slides_dir: Path,
    threads: int = 1,
) -> dict[str, Any]:
    """Score the bags that a folds file names, and evaluate the scores; content of metrics.json."""
    scores = out.with_name(f"{out.name}_scores")
    score_all(heads, jobs_of_folder(bags, scores, folds))
    metrics = evaluate_stage.run(dataset, scores, bags, folds, out, slides_dir=slides_dir)
    return metrics.to_json()


def heatmap(
    heads: Sequence[Path], bag: Path, tiles: Path | None, out: Path, **settings: Any
) -> str:
    """Score a bag and draw its attention."""
    scores = bag.with_suffix(".scores.h5")
    score_all(heads, [ScoreJob(None, (bag,), scores)])
    return heatmap_stage.run(scores, bag, tiles, out, **settings)
