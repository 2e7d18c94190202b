"""`mil heads …` at the command line. What it does is imported when it is called; `list` never imports torch."""

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Literal

import typer

heads_app = typer.Typer(help="Heads and recipes; exchange with the published codes.", no_args_is_help=True)

Tool = Literal["acmil", "aem", "clam"]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


@heads_app.command("list")
def heads_list() -> None:
    """All recipes and heads, those of other packages too."""
    from mil.exchange.head_list import listed

    typer.echo(listed())


@heads_app.command("show")
def heads_show(
    name: Annotated[str, typer.Argument(help="A head, a recipe in configs/heads, or a recipe's file.")],
) -> None:
    """What a head or a recipe is, its options, its losses and how it is trained."""
    from mil.exchange.head_show import described, fitted

    width = get_terminal_size().columns if sys.stdout.isatty() else None
    for line in described(name):
        typer.echo("\n".join(fitted(line, width)) if width else line)


@heads_app.command("verify")
def heads_verify(
    folders: Annotated[list[Path], typer.Argument(help="Folders of trained heads, or folders that hold some.")],
    seal: Annotated[bool, typer.Option("--seal", help="Seal them as they are now, whatever they were.")] = False,
) -> None:
    """Check that a head is what it was when it was made: its files, and its answer to the example bag beside them."""
    from mil.exchange.head_verify import run

    found = run(folders, seal=seal)
    for line in found.lines:
        typer.echo(line)
    raise typer.Exit(1 if found.faults else 0)


@heads_app.command("card")
def heads_card(
    folders: Annotated[list[Path], typer.Argument(help="Folders of trained heads, or folders that hold some.")],
    evaluated: Annotated[Path, typer.Option(help="Folder of their predictions.csv and metrics.json.")],
    dataset: Annotated[str, typer.Option(help="Its yaml, if it is not in configs/datasets.")] = "",
    min_tissue: Annotated[float | None, typer.Option(help="What its tiles were cut with, for the card.")] = None,
    min_area_mm2: Annotated[float | None, typer.Option(help="The same.")] = None,
) -> None:
    """Write MODEL_CARD.md into each head's folder: data, splits, metrics, limits, licence, how to use it."""
    from mil.exchange.head_card import Tissue, run

    for path in run(folders, evaluated, dataset=dataset, tissue=Tissue(min_tissue, min_area_mm2)):
        typer.echo(f"card {path}")


@heads_app.command("import")
def heads_import(
    file: Annotated[Path, typer.Argument(help="The checkpoint: .pth or .pt saved by torch.")],
    out: Annotated[Path, typer.Option(help="The head's folder.")],
    tool: Annotated[Tool, typer.Option("--from", help="Whose code trained it.")],
    classes: Annotated[str, typer.Option(help="Names of the classes in their order: normal,tumour.")] = "",
    positive: Annotated[str, typer.Option(help="The class of interest; default: the last.")] = "",
    dataset: Annotated[str, typer.Option(help="Take classes from this dataset: a name, or a yaml's path.")] = "",
    bags: Annotated[Path | None, typer.Option(help="Bags it is for: encoder, weights and tiling are theirs.")] = None,
    encoder: Annotated[str, typer.Option(help="What made its features, where there are no bags yet.")] = "",
    weights_sha256: Annotated[str, typer.Option(help="Of the encoder's weights.")] = "",
    tile_px: Annotated[int | None, typer.Option(min=1, help="Side of a tile as cut, pixels.")] = None,
    target_mpp: Annotated[float | None, typer.Option(min=0.001, help="Pixel size asked for, µm.")] = None,
    name: Annotated[str, typer.Option(help="As a recipe in predictions; default: the head's.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Its seed; default: the file's, else 1.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="The fold it was trained on.")] = 0,
    force: Force = False,
) -> None:
    """Make a trained head of a checkpoint of ACMIL's, AEM's or CLAM's code. Nothing in it is run."""
    from mil.exchange.head_import import Stated, run

    names = [each.strip() for each in classes.split(",")] if classes else []
    stated = Stated(
        classes=names, positive=positive, dataset=dataset, bags=bags, encoder=encoder, weights_sha256=weights_sha256,
        tile_px=tile_px, target_mpp=target_mpp, name=name, seed=seed, fold=fold,
    )  # fmt: skip
    made = run(file, out, tool=tool, stated=stated, force=force)
    head = made.trained
    typer.echo(f"import: {made.layout.name} of {tool} into {out}: head {head.recipe.name}, epoch {head.epoch or '?'}")
    typer.echo(f"classes {', '.join(head.classes)}, of interest {head.positive}")
    weights = head.weights_sha256[:12] or "not known"
    typer.echo(f"for bags of {head.encoder}, weights {weights}, tiling {head.tiling}, {head.dim} features a tile")
    for note in made.notes:
        typer.echo(note)


@heads_app.command("export")
def heads_export(
    folder: Annotated[Path, typer.Argument(help="Folder of a trained head.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint to write.")],
    tool: Annotated[Tool, typer.Option("--to", help="Whose code is to read it.")],
    force: Force = False,
) -> None:
    """Write a trained head as a checkpoint that ACMIL's, AEM's or CLAM's code reads."""
    from mil.exchange.head_export import run

    sent = run(folder, file, tool=tool, force=force)
    typer.echo(f"export: {sent.trained.recipe_name} as {sent.layout.name} of {tool} in {file}")
    for note in sent.notes:
        typer.echo(note)
