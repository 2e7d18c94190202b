"""`mil features` and `mil encoders …` at the command line. Nothing here imports torch before it is needed."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import FeaturesConfig, checked, load_encoder
from mil.errors import ConfigError

encoders_app = typer.Typer(help="What can embed tiles, and whether its weights are here.", no_args_is_help=True)

DEFAULT_ENCODER = "efficientnet_lite0"
LEAST_COLUMNS = 100  # for a pipe, which has no width

Name = Annotated[str, typer.Argument(help="An entry of configs/encoders.yaml.")]
Names = Annotated[list[str], typer.Argument(help="Entries of configs/encoders.yaml.")]


@encoders_app.command("list")
def encoders_list() -> None:
    """All encoders: features, tile, scale, licence, and whether their weights are on this disk."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mil.config import load_encoders
    from mil.features.find import find_weights

    table = Table("encoder", "dim", "tile, px", "µm/px", "licence", "gated", "weights", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for name, entry in load_encoders().items():
        weights = find_weights(name, entry, ask=False)
        table.add_row(
            name, str(entry.dim), str(entry.tile_px), f"{entry.mpp:g}", escape(entry.licence),
            "yes" if entry.gated else "", weights.word,
        )  # fmt: skip
    Console(width=max(Console().width, LEAST_COLUMNS), highlight=False).print(table)


@encoders_app.command("show")
def encoders_show(name: Name) -> None:
    """Everything about one encoder."""
    from mil.config import tiling_name
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
    from mil.features.fetch import fetch

    for name, entry in [(name, load_encoder(name)) for name in names]:
        path = fetch(name, entry)
        typer.echo(f"{name}: {f'{path} ({path.stat().st_size / 1e6:.0f} MB)' if path else 'nothing to fetch'}")


def features(
    slide: Annotated[Path, typer.Option(help="The slide.")],
    tiles: Annotated[Path, typer.Option(help="Its tiles file.")],
    out: Annotated[list[Path], typer.Option(help="Where the bag goes; one for each encoder.")],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Of configs/encoders.yaml; repeat to read the slide once for several. [default: efficientnet_lite0]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Tiles per step; default: 16 on a CPU, what the memory holds on a GPU.")
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="auto: what the device is fast in.")
    ] = "auto",
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Of the features in the bag.")] = "float16",
    max_corrupt: Annotated[float, typer.Option(help="Largest share of unreadable tiles.")] = 0.01,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile; slow to start.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
) -> None:
    """Embed a slide's tiles; the bag is all that later stages need."""
    names = encoder or [DEFAULT_ENCODER]
    if len(names) != len(out):
        raise ConfigError(f"mil features: {len(names)} --encoder, but {len(out)} --out; give one --out for each")
    if len({path.resolve() for path in out}) != len(out):
        raise ConfigError("mil features: the same --out twice; each encoder's bag needs a file of its own")
    if folder := next((path for path in out if path.is_dir()), None):
        raise ConfigError(f"mil features: --out {folder} is a folder; give the bag's file, such as {folder}/SLIDE.h5")
    entries = [load_encoder(name) for name in names]
    raw = {
        "batch_size": batch_size, "precision": precision, "dtype": dtype, "max_corrupt": max_corrupt,
        "compile": compile,
    }  # fmt: skip
    config = checked(FeaturesConfig, raw, "mil features")
    from mil.features.stage import Target, run

    targets = [Target(*target) for target in zip(names, entries, out, strict=True)]
    typer.echo(run(slide, tiles, targets, config=config, threads=threads, device=device))
