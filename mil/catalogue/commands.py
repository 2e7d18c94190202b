"""`mil heads list|show|verify|card` and `mil encoders …` at the command line; torch only where a command needs it."""

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer

from mil.config import load_encoder

heads_app = typer.Typer(
    help="Heads and recipes: list, show, verify, import and export.", no_args_is_help=True
)

encoders_app = typer.Typer(
    help="Encoders of tiles: list, show, and download their weights.", no_args_is_help=True
)

LEAST_COLUMNS = 100  # for a pipe, which has no width

Name = Annotated[str, typer.Argument(help="Name of an encoder in configs/encoders.yaml.")]
Names = Annotated[list[str], typer.Argument(help="Names of encoders in configs/encoders.yaml.")]


@heads_app.command("list")
def heads_list() -> None:
    """All recipes and heads, those of other packages too."""
    from mil.catalogue.listing import listed

    typer.echo(listed())


@heads_app.command("show")
def heads_show(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a head or of a recipe in configs/heads, or the path of a recipe's yaml."
        ),
    ],
) -> None:
    """Describe a head or a recipe: its options, losses and training."""
    from mil.catalogue.show import described, fitted

    width = get_terminal_size().columns if sys.stdout.isatty() else None
    for line in described(name):
        typer.echo("\n".join(fitted(line, width)) if width else line)


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
    """Check that a head is what it was when it was made: its files, and its answer to the example bag beside them."""
    from mil.trained.verify import run

    found = run(folders, seal=seal)
    for line in found.lines:
        typer.echo(line)
    raise typer.Exit(1 if found.faults else 0)


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
) -> None:
    """Write MODEL_CARD.md into each head's folder: data, splits, metrics, limits, licence, how to use it."""
    from mil.trained.card import Tissue, run

    for path in run(folders, evaluated, dataset=dataset, tissue=Tissue(min_tissue, min_area_mm2)):
        typer.echo(f"card {path}")


@encoders_app.command("list")
def encoders_list() -> None:
    """All encoders: features, tile, scale, licence, and whether their weights are on this disk."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mil.config import load_encoders
    from mil.encoders.availability import find_weights

    table = Table(
        "encoder",
        "dim",
        "tile, px",
        "µm/px",
        "licence",
        "gated",
        "weights",
        box=None,
        pad_edge=False,
    )
    for column in table.columns:
        column.no_wrap = True
    for name, entry in load_encoders().items():
        weights = find_weights(name, entry, ask=False)
        table.add_row(
            name,
            str(entry.dim),
            str(entry.tile_px),
            f"{entry.mpp:g}",
            escape(entry.licence),
            "yes" if entry.gated else "",
            weights.word,
        )
    Console(width=max(Console().width, LEAST_COLUMNS), highlight=False).print(table)


@encoders_app.command("show")
def encoders_show(name: Name) -> None:
    """Everything about one encoder."""
    from mil.config import tiling_name
    from mil.encoders.availability import find_weights

    entry = load_encoder(name)
    found = find_weights(name, entry, ask=False)
    said = entry.model_dump(exclude_none=True) | {
        "args": ", ".join(f"{k}={v}" for k, v in entry.args.items())
    }
    for key, value in {"encoder": name, **said, "gated": "yes" if entry.gated else "no"}.items():
        if value != "":
            typer.echo(f"{key:<10} {value}")
    typer.echo(
        f"{'tiling':<10} {tiling_name(entry.tile_px, entry.mpp)}, {entry.tile_px * entry.mpp:g} "
        "µm wide"
    )
    typer.echo(f"{'here':<10} {found.word}: {found.detail}")


@encoders_app.command("fetch")
def encoders_fetch(names: Names) -> None:
    """Download weights into the cache of this machine, for a run on one without a network."""
    from mil.encoders.download import fetch

    for name, entry in [(name, load_encoder(name)) for name in names]:
        path = fetch(name, entry)
        typer.echo(
            f"{name}: "
            f"{f'{path} ({path.stat().st_size / 1e6:.0f} MB)' if path else 'nothing to fetch'}"
        )
