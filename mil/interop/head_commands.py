"""`mil heads import|export` at the command line; torch is imported when a command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Tool = Literal["acmil", "aem", "clam"]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]


def import_head(
    file: Annotated[Path, typer.Argument(help="Checkpoint saved by torch: .pth or .pt.")],
    out: Annotated[Path, typer.Option(help="Folder to write the trained head to.")],
    tool: Annotated[Tool, typer.Option("--from", help="Code that the head was trained with.")],
    classes: Annotated[
        str,
        typer.Option(
            help="Names of the classes in the order of the outputs, such as normal,tumour."
        ),
    ] = "",
    positive: Annotated[str, typer.Option(help="Class of interest; default: the last class.")] = "",
    dataset: Annotated[
        str, typer.Option(help="Dataset to take the classes from: a name, or the path of its yaml.")
    ] = "",
    bags: Annotated[
        Path | None, typer.Option(help="Folder of bags to take encoder, weights and tiling from.")
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="Name of the encoder of the head's features, where there are no bags yet."
        ),
    ] = "",
    weights_sha256: Annotated[str, typer.Option(help="SHA-256 of the encoder's weights.")] = "",
    tile_px: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile as read by the encoder, pixels.")
    ] = None,
    target_mpp: Annotated[
        float | None,
        typer.Option(min=0.001, help="Resolution requested for the tiles, micrometres per pixel."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the recipe in predictions; default: the head's name.")
    ] = "",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed of the training; default: that of the file, else 1."),
    ] = None,
    fold: Annotated[
        int, typer.Option(min=0, help="Number of the fold that the head was trained on.")
    ] = 0,
    force: Force = False,
) -> None:
    """Make a trained head of a checkpoint of ACMIL's, AEM's or CLAM's code. Nothing in it is run."""
    from mil.interop.import_head import Stated, run

    names = [each.strip() for each in classes.split(",")] if classes else []
    stated = Stated(
        classes=names,
        positive=positive,
        dataset=dataset,
        bags=bags,
        encoder=encoder,
        weights_sha256=weights_sha256,
        tile_px=tile_px,
        target_mpp=target_mpp,
        name=name,
        seed=seed,
        fold=fold,
    )
    made = run(file, out, tool=tool, stated=stated, force=force)
    head = made.trained
    typer.echo(
        f"import: {made.layout.name} of {tool} into {out}: head {head.recipe.name}, epoch "
        f"{head.epoch or '?'}"
    )
    typer.echo(f"classes {', '.join(head.classes)}, of interest {head.positive}")
    weights = head.weights_sha256[:12] or "not known"
    typer.echo(
        f"for bags of {head.encoder}, weights {weights}, tiling {head.tiling}, {head.dim} "
        "features a tile"
    )
    for note in made.notes:
        typer.echo(note)


def export_head(
    folder: Annotated[Path, typer.Argument(help="Folder of a trained head.")],
    file: Annotated[Path, typer.Argument(help="Checkpoint to write.")],
    tool: Annotated[Tool, typer.Option("--to", help="Code that is to read the checkpoint.")],
    force: Force = False,
) -> None:
    """Write a trained head as a checkpoint that ACMIL's, AEM's or CLAM's code reads."""
    from mil.interop.export_head import run

    sent = run(folder, file, tool=tool, force=force)
    typer.echo(f"export: {sent.trained.recipe_name} as {sent.layout.name} of {tool} in {file}")
    for note in sent.notes:
        typer.echo(note)
