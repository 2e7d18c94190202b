"""`mil split` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import Config, Fusion, SplitConfig, checked
from mil.config.options import BagsDir, Dataset, option

RUN = Config()
SPLIT = SplitConfig()


def split(
    dataset: Dataset,
    bags: BagsDir,
    out: Annotated[Path, typer.Option(help="File of the folds to write, .csv.")],
    tiles: Annotated[
        Path | None,
        typer.Option(help="Folder that `mil tile` wrote; omit for precomputed (imported) bags."),
    ] = None,
    folds: Annotated[int, option(Config, "folds", min=1)] = RUN.folds,
    file: Annotated[str | None, option(SplitConfig, "file")] = SPLIT.file,
    by: Annotated[str | None, option(SplitConfig, "by")] = SPLIT.by,
    seed: Annotated[int, option(SplitConfig, "seed", min=0)] = SPLIT.seed,
    val_share: Annotated[float, option(SplitConfig, "val_share")] = SPLIT.val_share,
    test_share: Annotated[float, option(SplitConfig, "test_share")] = SPLIT.test_share,
    fusion: Annotated[Fusion, option(Config, "fusion")] = RUN.fusion,
    allow_missing: Annotated[
        bool, option(Config, "allow_missing", "--allow-missing")
    ] = RUN.allow_missing,
) -> None:
    """Divide the patients into training, validation and test."""
    from mil.split.stage import run

    settings = {
        "file": file,
        "by": by,
        "seed": seed,
        "val_share": val_share,
        "test_share": test_share,
    }
    message = run(
        dataset,
        tiles,
        bags,
        out,
        folds=folds,
        allow_missing=allow_missing,
        # Checked together, as in the yaml: `file` and `by` exclude one another.
        config=checked(SplitConfig, settings, "mil split"),
        fusion=fusion,
    )
    typer.echo(message)
