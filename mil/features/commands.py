"""`mil encoders …` at the command line. Nothing here imports torch before it is needed."""

from typing import Annotated

import typer

encoders_app = typer.Typer(help="What can embed tiles, and whether its weights are here.", no_args_is_help=True)

LEAST_COLUMNS = 100  # for a pipe, which has no width

Name = Annotated[str, typer.Argument(help="An entry of configs/encoders.yaml.")]
Names = Annotated[list[str], typer.Argument(help="Entries of configs/encoders.yaml.")]


@encoders_app.command("list")
def encoders_list() -> None:
    """All encoders: features, tile, scale, licence, and whether their weights are on this disk."""
    from rich.console import Console
    from rich.table import Table

    from mil.config import load_encoders
    from mil.features.find import find_weights

    table = Table("encoder", "dim", "tile, px", "µm/px", "licence", "gated", "weights", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for name, entry in load_encoders().items():
        weights = find_weights(name, entry, ask=False)
        table.add_row(
            name, str(entry.dim), str(entry.tile_px), f"{entry.mpp:g}", entry.licence, "yes" if entry.gated else "",
            weights.word,
        )  # fmt: skip
    Console(width=max(Console().width, LEAST_COLUMNS), highlight=False).print(table)


@encoders_app.command("show")
def encoders_show(name: Name) -> None:
    """Everything about one encoder."""
    from mil.config import load_encoder, tiling_name
    from mil.features.find import find_weights

    entry = load_encoder(name)
    found = find_weights(name, entry, ask=False)
    said = entry.model_dump(exclude_none=True) | {"args": ", ".join(f"{k}={v}" for k, v in entry.args.items())}
    for key, value in {"encoder": name, **said, "gated": "yes" if entry.gated else "no"}.items():
        if value != "":
            typer.echo(f"{key:<10} {value}")
    typer.echo(f"{'tiling':<10} {tiling_name(entry.tile_px, entry.mpp)}, {entry.tile_px * entry.mpp:g} µm wide")
    typer.echo(f"{'here':<10} {found.word}: {found.detail}")


@encoders_app.command("fetch")
def encoders_fetch(names: Names) -> None:
    """Download weights into the cache of this machine, for a run on one without a network."""
    from mil.config import load_encoder
    from mil.features.fetch import fetch

    for name, entry in [(name, load_encoder(name)) for name in names]:
        path = fetch(name, entry)
        typer.echo(f"{name}: {f'{path} ({path.stat().st_size / 1e6:.0f} MB)' if path else 'nothing to fetch'}")
