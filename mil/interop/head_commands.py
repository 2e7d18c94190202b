"""`mil heads import|export` at the command line; torch is imported when a command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.errors import ConfigError
from mil.interop.options import ForceFolder, TilePx

Tool = Literal["acmil", "aem", "clam", "feather"]


def import_head(
    file: Annotated[
        Path, typer.Argument(help="Checkpoint: .pth or .pt saved by torch, or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the trained head.")],
    tool: Annotated[Tool, typer.Option("--from", help="Code that trained the checkpoint.")],
    # The classes, which no checkpoint names.
    classes: Annotated[
        str,
        typer.Option(
            help="Names of the classes in the order of the head's outputs: normal,tumour."
        ),
    ] = "",
    positive: Annotated[
        str, typer.Option(help="Class of interest; default: the last, or the dataset's.")
    ] = "",
    dataset: Annotated[
        str, typer.Option(help="Dataset to take the classes from: a name, or a yaml file.")
    ] = "",
    # The bags that the head is for.
    bags: Annotated[
        Path | None,
        typer.Option(
            help="Bags that the head is for; they give the encoder, its weights and the tiling."
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder of the features, where there are no bags yet.")
    ] = "",
    weights_sha256: Annotated[
        str, typer.Option(help="SHA-256 of the encoder's weights, where there are no bags yet.")
    ] = "",
    tile_px: TilePx = None,
    target_mpp: Annotated[
        float | None, typer.Option(min=0.001, help="Requested pixel size of a tile, µm.")
    ] = None,
    # Name, seed and fold of the head in tables and heatmaps.
    name: Annotated[
        str, typer.Option(help="Name of the recipe in predictions; default: the head's name.")
    ] = "",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed of the training; default: the checkpoint's, else 1."),
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold that the head was trained on.")] = 0,
    force: ForceFolder = False,
) -> None:
    """Import weights of ACMIL, AEM, CLAM or FEATHER as a trained head; no code in them is run."""
    from mil.interop.import_facts import HeadImportOptions
    from mil.interop.import_head import run

    options = HeadImportOptions(
        classes=[name.strip() for name in classes.split(",")] if classes else [],
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
    result = run(file, out, tool=tool, options=options, force=force)
    trained = result.trained
    typer.echo(
        f"import: {result.published.name} of {tool} into {out}: head {trained.recipe.name}, epoch "
        f"{trained.epoch or '?'}"
    )
    typer.echo(f"classes {', '.join(trained.classes)}, class of interest {trained.positive}")
    weights = trained.weights_sha256[:12] or "not known"
    typer.echo(
        f"for bags of {trained.encoder}, weights {weights}, tiling {trained.tiling}, "
        f"{trained.dim} features a tile"
    )
    for note in result.notes:
        typer.echo(note)


def export_head(
    folder: Annotated[Path, typer.Argument(help="Folder of the trained head.")],
    file: Annotated[Path | None, typer.Argument(help="Checkpoint to write, with --to.")] = None,
    tool: Annotated[
        Tool | None, typer.Option("--to", help="Code that is to read the checkpoint.")
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            help="ONNX file to write, for programs without torch; needs the extra `onnx`."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Export a trained head: a checkpoint for the code of ACMIL, AEM, CLAM or MIL-Lab, or ONNX."""
    if onnx is not None and file is None and tool is None:
        _export_onnx(folder, onnx, force=force)
    elif onnx is None and file is not None and tool is not None:
        _export_checkpoint(folder, file, tool, force=force)
    else:
        raise ConfigError(
            "heads export: takes either a checkpoint and its code (FILE --to clam) or an ONNX file "
            "(--onnx FILE)"
        )


def _export_onnx(folder: Path, file: Path, *, force: bool) -> None:
    from mil.interop.export_onnx import run

    result = run(folder, file, force=force)
    typer.echo(
        f"export: {result.trained.recipe_name} as ONNX in {file}, {result.num_bytes / 1e6:.1f} MB"
    )
    typer.echo(
        f"input: features [tiles, {result.trained.dim}], float32, of {result.trained.encoder} on "
        f"tiles of {result.trained.tiling}"
    )
    typer.echo(f"outputs: {', '.join(result.outputs)}")
    typer.echo(
        "checked against mil on a bag of random numbers; ONNX Runtime reads it, WSInfer-MIL does "
        "not (it reads TorchScript)"
    )


def _export_checkpoint(folder: Path, file: Path, tool: Tool, *, force: bool) -> None:
    from mil.interop.export_head import run

    result = run(folder, file, tool=tool, force=force)
    typer.echo(
        f"export: {result.trained.recipe_name} as {result.published.name} of {tool} in {file}"
    )
    for note in result.notes:
        typer.echo(note)
