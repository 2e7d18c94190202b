"""`mil baseline` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import BagsDir, Dataset, FoldNumbers, Folds, Threads


def baseline(
    dataset: Dataset,
    bags: BagsDir,
    folds: Folds,
    heads: Annotated[
        Path,
        typer.Option(
            help="Folder of the fitted heads, with {seed} and {fold} in its name, such as "
            "heads/seed{seed}_fold{fold}."
        ),
    ],
    scores: Annotated[Path, typer.Option(help="Folder for a score file of each bag of --folds.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for predictions.csv, predictions_patients.csv and metrics.json."),
    ],
    recipe: Annotated[
        str, typer.Option(help="Recipe of a head that is fitted at once: linear_probe, knn.")
    ] = "linear_probe",
    fold: FoldNumbers = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0, help="Random seed of the nested folds; repeat for several. Default: 1."
        ),
    ] = None,
    threads: Threads = 1,
    cache_mb: Annotated[
        int, typer.Option(min=0, help="Memory for bags, MiB; bags beyond it are read again.")
    ] = 8000,
) -> None:
    """Fit, score and evaluate a probe that heads are compared with: its predictions alone.

    As by `mil train`, `mil score` and `mil evaluate`, but in one process of seconds, and
    without evidence of tiles, localisation and heatmaps. `mil compare --baseline
    linear_probe` tells whether heads are better.

    Example: mil baseline --dataset demo --bags BAGS --folds F.csv --heads 'h/s{seed}f{fold}' …
    """
    from mil.baseline.stage import Inputs, run
    from mil.errors import MilError
    from mil.evaluate.text import metrics_line
    from mil.train.runs import head_runs

    try:
        metrics = run(
            recipe,
            Inputs(dataset, bags, folds),
            head_runs(heads, seed or [], fold or []),
            scores,
            out,
            threads=threads,
            cache_mb=cache_mb,
            report=lambda line: typer.echo(f"baseline {line}"),
        )
    except MilError as error:
        # Nobody asked for it who left the setting as it is.
        raise MilError(f"{error} (baseline=none runs a study without its baseline)") from None
    # Without the note that there is no evidence, which nobody asks of a baseline.
    typer.echo(metrics_line(metrics).splitlines()[0])
