"""`mil heads list|show|verify|card` and `mil encoders …` at the command line.

Torch is imported only by the commands that need it.
"""

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer

heads_app = typer.Typer(
    help="Heads and recipes: list, show, verify, import and export.", no_args_is_help=True
)

encoders_app = typer.Typer(
    help="Encoders of tiles and of slides: list, show, and download their weights.",
    no_args_is_help=True,
)

Name = Annotated[
    str,
    typer.Argument(
        help="Name of an encoder in configs/encoders.yaml, or of a slide encoder in "
        "configs/slide_encoders."
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        help="Names of encoders in configs/encoders.yaml, or of slide encoders in "
        "configs/slide_encoders."
    ),
]


@heads_app.command("list")
def heads_list() -> None:
    """List all recipes and heads, those of other packages too."""
    from mil.catalogue.listing import heads_table

    typer.echo(heads_table())


@heads_app.command("show")
def heads_show(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a head or of a recipe in configs/heads, path of a recipe's yaml, or "
            "folder of a trained head."
        ),
    ],
) -> None:
    """Describe a head, a recipe or a trained head: its options, losses and training."""
    from mil.catalogue.show import description_lines, wrapped

    # A pipe has no width, and its lines may go through grep.
    width = get_terminal_size().columns if sys.stdout.isatty() else None
    for line in description_lines(name):
        typer.echo("\n".join(wrapped(line, width)) if width else line)


@heads_app.command("verify")
def heads_verify(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of trained heads, or folders that contain some.")
    ],
    seal: Annotated[
        bool,
        typer.Option(
            "--seal", help="Write new checksums and predictions for the heads as they are now."
        ),
    ] = False,
) -> None:
    """Check that trained heads are unchanged: files, and predictions for the example bag.

    The exit code is 1 if a head has a fault.
    """
    from mil.trained.verify import run

    verification = run(folders, seal=seal)
    for line in verification.lines:
        typer.echo(line)
    raise typer.Exit(1 if verification.faults else 0)


@heads_app.command("card")
def heads_card(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of trained heads, or folders that contain some.")
    ],
    evaluated: Annotated[
        Path, typer.Option(help="Folder of the heads' predictions.csv and metrics.json.")
    ],
    dataset: Annotated[
        str, typer.Option(help="Dataset, if it is not in configs/datasets: the path of its yaml.")
    ] = "",
    min_tissue: Annotated[
        float | None,
        typer.Option(help="Smallest fraction of tissue that the tiles were cut with, 0 to 1."),
    ] = None,
    min_area_mm2: Annotated[
        float | None, typer.Option(help="Smallest area of a tissue region that was kept, mm².")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence under which the heads are given away, such as apache-2.0.")
    ] = "",
) -> None:
    """Write MODEL_CARD.md into each head's folder.

    The card states data, splits, metrics, limits, licence and use.
    """
    from mil.trained.card import run
    from mil.trained.card_use import Tissue

    tissue = Tissue(min_tissue, min_area_mm2)
    for path in run(folders, evaluated, dataset=dataset, tissue=tissue, licence=licence):
        typer.echo(f"card {path}")


@encoders_app.command("list")
def encoders_list() -> None:
    """List all encoders: features, tile, scale, licence, and whether their weights are on disk.

    A second table lists the published slide encoders, which stand on features of tiles.
    """
    from mil.catalogue.encoders import encoders_tables

    typer.echo(encoders_tables())


@encoders_app.command("show")
def encoders_show(name: Name) -> None:
    """Describe one encoder: model, weights, tile, scale, licence, and weights on disk."""
    from mil.catalogue.encoders import encoder_lines

    for line in encoder_lines(name):
        typer.echo(line)


@encoders_app.command("fetch")
def encoders_fetch(
    names: Names,
    login: Annotated[
        bool,
        typer.Option(
            "--login",
            help="Log in to the Hugging Face hub first, unless this machine is: gated weights "
            "need an account with access.",
        ),
    ] = False,
) -> None:
    """Download encoders' weights into this machine's cache, for runs without a network."""
    from mil.catalogue.encoders import fetch_functions
    from mil.encoders.download import log_in

    # All names first: a typing error must not show after a download of gigabytes.
    functions = fetch_functions(names)
    if login:
        log_in()
    for name, fetch in functions:
        path = fetch()
        if path is None:
            typer.echo(f"{name}: nothing to fetch")
        else:
            typer.echo(f"{name}: {path} ({path.stat().st_size / 1e6:.0f} MB)")
