"""`mil evaluate` at the command line; the work is imported when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import EvaluateConfig
from mil.config.options import BagsDir, Dataset, Folds, option

DEFAULTS = EvaluateConfig()


def evaluate(
    dataset: Dataset,
    scores: Annotated[
        Path,
        typer.Option(
            help="Folder of the score files that `mil score` wrote, one for each bag of --folds."
        ),
    ],
    bags: BagsDir,
    folds: Folds,
    out: Annotated[
        Path,
        typer.Option(help="Folder for predictions.csv, predictions_patients.csv and metrics.json."),
    ],
    slides_dir: Annotated[
        Path, typer.Option(help="Folder of the slides, in which annotations are looked for.")
    ] = Path(),
    ablate: Annotated[
        Literal["none", "branches"], option(EvaluateConfig, "ablate")
    ] = DEFAULTS.ablate,
) -> None:
    """Write predictions of all slides, and metrics of the test slides with intervals.

    Example: mil evaluate --dataset demo --scores scores --bags BAGS --folds F.csv --out out
    """
    from mil.evaluate.stage import run
    from mil.evaluate.text import metrics_line

    metrics = run(dataset, scores, bags, folds, out, slides_dir=slides_dir, ablate=ablate)
    typer.echo(metrics_line(metrics))
