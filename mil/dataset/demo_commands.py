"""`mil demo …` at the command line; the work is imported when a command runs."""

from pathlib import Path
from typing import Annotated

import typer

demo_app = typer.Typer(help="Datasets to try things on.", no_args_is_help=True)


@demo_app.callback()
def _demo() -> None:
    """Datasets to try things on."""


@demo_app.command("composites")
def demo_composites(
    tiles: Annotated[
        Path,
        typer.Argument(
            help="Folder of labelled tiles: with a labels.csv (columns file and label, 0 or 1), or "
            "with subfolders normal and tumour.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(help="Folder of the slides to write; its name becomes that of the dataset."),
    ],
    datasets: Annotated[
        Path, typer.Option(help="Folder to write NAME.yaml and NAME.csv to.")
    ] = Path("configs/datasets"),
    slides: Annotated[
        int,
        typer.Option(
            min=6, help="Number of slides: half to train, a sixth to validate, the rest to test."
        ),
    ] = 60,
    witness: Annotated[
        float, typer.Option(min=0, max=1, help="Share of tumour tiles in a tumour slide.")
    ] = 0.08,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of all draws.")] = 0,
    second: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of further test slides, from tiles that no other slide is drawn from.",
        ),
    ] = 0,
    tile_mpp: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="Resolution of the labelled tiles, micrometres per pixel; default: that of "
            "PatchCamelyon.",
        ),
    ] = 0.97,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a dataset of that name.")
    ] = False,
) -> None:
    """Make slides of real labelled tiles, whose tumour is known tile by tile."""
    from mil.demo.composite_dataset import write_composites

    report = write_composites(
        tiles,
        out,
        datasets=datasets,
        slides=slides,
        witness=witness,
        seed=seed,
        second=second,
        tile_mpp=tile_mpp,
        force=force,
    )
    typer.echo(report)
