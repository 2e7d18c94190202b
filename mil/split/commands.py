"""`mil split`; what does the work is imported when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import Fusion, SplitConfig, checked


def split(
    dataset: Annotated[
        str, typer.Option(help="A name in configs/datasets, or the path of a dataset's yaml.")
    ],
    bags: Annotated[Path, typer.Option(help="Folder of the bags.")],
    out: Annotated[Path, typer.Option(help="Where the result goes.")],
    tiles: Annotated[
        Path | None, typer.Option(help="Folder of the tiles files; none: the bags are ready.")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=1, help="1: one division; k: k-fold cross-validation.")
    ] = 1,
    file: Annotated[
        str | None, typer.Option(help="A folds file, or splits of CLAM, ACMIL or STAMP.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="A column of the table; each of its values is once the test.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random division.")] = 0,
    val_share: Annotated[
        float, typer.Option(help="Share of training patients used for validation.")
    ] = 0.2,
    test_share: Annotated[
        float, typer.Option(help="Share of patients held out, if the table names no test.")
    ] = 0.25,
    fusion: Annotated[
        Fusion, typer.Option(help="Slides of a patient: one by one, or one bag.")
    ] = "late",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without unusable slides.")
    ] = False,
) -> None:
    """Divide the patients into train, val and test."""
    from mil.split.stage import run

    raw = {"file": file, "by": by, "seed": seed, "val_share": val_share, "test_share": test_share}
    config = checked(SplitConfig, raw, "mil split")
    typer.echo(
        run(
            dataset,
            tiles,
            bags,
            out,
            folds=folds,
            allow_missing=allow_missing,
            config=config,
            fusion=fusion,
        )
    )
