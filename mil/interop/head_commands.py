"""`mil heads import|export` at the command line; torch is imported when a command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Tool = Literal["acmil", "aem", "clam"]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


def import_head(
    file: Annotated[Path, typer.Argument(help="The checkpoint: .pth or .pt saved by torch.")],
    out: Annotated[Path, typer.Option(help="The head's folder.")],
    tool: Annotated[Tool, typer.Option("--from", help="Whose code trained it.")],
    classes: Annotated[
        str, typer.Option(help="Names of the classes in their order: normal,tumour.")
    ] = "",
    positive: Annotated[str, typer.Option(help="The class of interest; default: the last.")] = "",
    dataset: Annotated[
        str, typer.Option(help="Take classes from this dataset: a name, or a yaml's path.")
    ] = "",
    bags: Annotated[
        Path | None, typer.Option(help="Bags it is for: encoder, weights and tiling are theirs.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="What made its features, where there are no bags yet.")
    ] = "",
    weights_sha256: Annotated[str, typer.Option(help="Of the encoder's weights.")] = "",
    tile_px: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile as cut, pixels.")
    ] = None,
    target_mpp: Annotated[
        float | None, typer.Option(min=0.001, help="Pixel size asked for, µm.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="As a recipe in predictions; default: the head's.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Its seed; default: the file's, else 1.")
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="The fold it was trained on.")] = 0,
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
    file: Annotated[Path, typer.Argument(help="The checkpoint to write.")],
    tool: Annotated[Tool, typer.Option("--to", help="Whose code is to read it.")],
    force: Force = False,
) -> None:
    """Write a trained head as a checkpoint that ACMIL's, AEM's or CLAM's code reads."""
    from mil.interop.export_head import run

    sent = run(folder, file, tool=tool, force=force)
    typer.echo(f"export: {sent.trained.recipe_name} as {sent.layout.name} of {tool} in {file}")
    for note in sent.notes:
        typer.echo(note)
