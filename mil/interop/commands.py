"""`mil bags …` at the command line. What it does is imported when it is called."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

bags_app = typer.Typer(
    help="Feature bags: exchange with other tools, look over.", no_args_is_help=True
)

Tool = Literal["clam", "trident", "stamp", "acmil"]
Mpp = Annotated[
    float | None, typer.Option(min=0.001, help="Pixel size of level 0 of all slides, µm.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


@bags_app.command("import")
def bags_import(
    path: Annotated[Path, typer.Argument(help="A file or a folder of features.")],
    out: Annotated[Path, typer.Option(help="Folder of the bags.")],
    tool: Annotated[
        Tool | None, typer.Option("--from", help="Whose it is; default: told by the keys.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="What made the features, where the files do not say.")
    ] = "",
    weights_sha256: Annotated[str, typer.Option(help="Of the encoder's weights.")] = "",
    mpp: Mpp = None,
    mpp_table: Annotated[
        Path | None, typer.Option(help="Table with columns for the slide and `mpp`.")
    ] = None,
    slides_dir: Annotated[
        Path | None, typer.Option(help="Folder of the slides, to read their pixel size.")
    ] = None,
    side_level0_px: Annotated[
        float | None, typer.Option(min=1, help="Side of a tile, level-0 pixels.")
    ] = None,
    tile_px: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile as cut, pixels.")
    ] = None,
    target_mpp: Annotated[
        float | None, typer.Option(min=0.001, help="Pixel size asked for, µm.")
    ] = None,
    patches: Annotated[
        Path | None, typer.Option(help="CLAM's folder of coordinates; default: near.")
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Of the features.")
    ] = "float16",
    dataset: Annotated[str, typer.Option(help="Make a dataset of this name.")] = "",
    labels: Annotated[
        Path | None, typer.Option(help="Its labels: any tool's table, .csv or .xlsx.")
    ] = None,
    slide_table: Annotated[
        Path | None, typer.Option(help="STAMP's table of slides; --labels is its clini.")
    ] = None,
    slide_column: Annotated[str | None, typer.Option(help="Column of slide names.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels.")] = None,
    patient_column: Annotated[str | None, typer.Option(help="Column of patients.")] = None,
    positive: Annotated[str, typer.Option(help="The class of interest; default: the last.")] = "",
    split: Annotated[Path | None, typer.Option(help="One file of splits, any tool's.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Which fold of it.")] = None,
    datasets: Annotated[Path, typer.Option(help="Where the dataset goes.")] = Path(
        "configs/datasets"
    ),
    force: Force = False,
) -> None:
    """Make bags of another tool's features; with --dataset also what a run on them needs."""
    from mil.interop.convert import Known
    from mil.interop.import_bags import Sizes, Wanted, run
    from mil.interop.messages import imported

    wanted = None
    if dataset:
        columns = {"slide": slide_column, "label": label_column, "patient": patient_column}
        wanted = Wanted(
            name=dataset,
            folder=datasets,
            labels=labels,
            slide_table=slide_table,
            columns=columns,
            split=split,
            fold=fold,
            positive=positive,
            force=force,
        )
    known = Known(
        encoder=encoder,
        weights_sha256=weights_sha256,
        tile_px=tile_px,
        target_mpp=target_mpp,
        side_level0_px=side_level0_px,
        dtype=dtype,
    )
    sizes = Sizes(mpp=mpp, table=mpp_table, slides_dir=slides_dir)
    brought = run(
        path, out, tool=tool, known=known, sizes=sizes, patches=patches, wanted=wanted, force=force
    )
    for line in imported(brought, out, dtype):
        typer.echo(line)
    if dataset and not brought.faults:
        typer.echo(f"now: snakemake --cores all --config dataset={dataset} bags={quote(str(out))}")
    raise typer.Exit(1 if brought.faults else 0)


@bags_app.command("export")
def bags_export(
    bags: Annotated[Path, typer.Argument(help="Folder of the bags.")],
    out: Annotated[Path, typer.Option(help="Folder of the other tool's files.")],
    tool: Annotated[Tool, typer.Option("--to", help="Whose files to write.")],
    dataset: Annotated[
        str, typer.Option(help="Write its labels too: a name, or the path of a yaml.")
    ] = "",
    folds: Annotated[
        Path | None, typer.Option(help="The folds file of `mil split`; default: its split.")
    ] = None,
    magnification: Annotated[
        float | None, typer.Option(min=0.1, help="Nominal, for TRIDENT.")
    ] = None,
    force: Force = False,
) -> None:
    """Write bags as another tool's files."""
    from mil.interop.export_bags import run
    from mil.interop.messages import exported

    sent = run(
        bags, out, tool=tool, dataset=dataset, folds=folds, magnification=magnification, force=force
    )
    for line in exported(sent, tool, out):
        typer.echo(line)


@bags_app.command("verify")
def bags_verify(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders, ours or another tool's.")],
) -> None:
    """Look for damage and for bags that do not belong together; change nothing; exit code 1 when there is a fault."""
    from mil.interop.verify import run

    found = run(paths)
    for fault in found.faults:
        typer.echo(fault)
    typer.echo(f"{found.bags} bags, {len(found.faults)} faults")
    raise typer.Exit(1 if found.faults else 0)


@bags_app.command("ls")
def bags_ls(folder: Annotated[Path, typer.Argument(help="Folder of the bags.")]) -> None:
    """List the bags of a folder."""
    from mil.interop.show import listed

    typer.echo(listed(folder))


@bags_app.command("info")
def bags_info(
    file: Annotated[Path, typer.Argument(help="A bag, or another tool's file of one slide.")],
) -> None:
    """Say all that a file says, and what it does not."""
    from mil.interop.show import described

    for line in described(file):
        typer.echo(line)
