"""`mil bags …` at the command line. What it does is imported when it is called."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

bags_app = typer.Typer(
    help="Feature bags: list, verify, import from and export to other tools.", no_args_is_help=True
)

Tool = Literal["clam", "trident", "stamp", "acmil"]
Mpp = Annotated[
    float | None, typer.Option(min=0.001, help="Pixel size of level 0 of all slides, micrometres.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]


@bags_app.command("import")
def bags_import(
    path: Annotated[Path, typer.Argument(help="File or folder of features.")],
    out: Annotated[Path, typer.Option(help="Folder of the bags.")],
    tool: Annotated[
        Tool | None,
        typer.Option(
            "--from", help="Tool that wrote the features; default: detected from the files."
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(help="Name of the encoder of the features, where the files do not state it."),
    ] = "",
    weights_sha256: Annotated[str, typer.Option(help="SHA-256 of the encoder's weights.")] = "",
    mpp: Mpp = None,
    mpp_table: Annotated[
        Path | None,
        typer.Option(help="Table of pixel sizes, with columns for the slide and `mpp`."),
    ] = None,
    slides_dir: Annotated[
        Path | None, typer.Option(help="Folder of the slides, to read their pixel size from.")
    ] = None,
    side_level0_px: Annotated[
        float | None, typer.Option(min=1, help="Side of a tile, level-0 pixels.")
    ] = None,
    tile_px: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile as read by the encoder, pixels.")
    ] = None,
    target_mpp: Annotated[
        float | None,
        typer.Option(min=0.001, help="Resolution requested for the tiles, micrometres per pixel."),
    ] = None,
    patches: Annotated[
        Path | None,
        typer.Option(help="Folder of CLAM's coordinates; default: searched near the features."),
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Data type of the stored features.")
    ] = "float16",
    dataset: Annotated[
        str, typer.Option(help="Name of a dataset to make of the bags and --labels.")
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(help="Table of the dataset's labels, of any tool: .csv or .xlsx.")
    ] = None,
    slide_table: Annotated[
        Path | None,
        typer.Option(help="STAMP's table of slides; --labels is then STAMP's clini table."),
    ] = None,
    slide_column: Annotated[
        str | None, typer.Option(help="Column of slide names in --labels.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels in --labels.")] = None,
    patient_column: Annotated[
        str | None, typer.Option(help="Column of patients in --labels.")
    ] = None,
    positive: Annotated[str, typer.Option(help="Class of interest; default: the last class.")] = "",
    split: Annotated[Path | None, typer.Option(help="File of splits, of any tool.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Number of the fold in --split.")] = None,
    datasets: Annotated[Path, typer.Option(help="Folder to write the dataset to.")] = Path(
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
    out: Annotated[Path, typer.Option(help="Folder to write the other tool's files to.")],
    tool: Annotated[Tool, typer.Option("--to", help="Tool to write files for.")],
    dataset: Annotated[
        str,
        typer.Option(help="Dataset whose labels are written too: a name, or the path of its yaml."),
    ] = "",
    folds: Annotated[
        Path | None,
        typer.Option(
            help="File of the folds, written by `mil split`; default: the dataset's own split."
        ),
    ] = None,
    magnification: Annotated[
        float | None, typer.Option(min=0.1, help="Nominal magnification, for TRIDENT.")
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
    paths: Annotated[
        list[Path], typer.Argument(help="Files and folders of bags, of mil or of another tool.")
    ],
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
    file: Annotated[
        Path, typer.Argument(help="File of a bag, or another tool's file of one slide.")
    ],
) -> None:
    """Say all that a file says, and what it does not."""
    from mil.interop.show import described

    for line in described(file):
        typer.echo(line)
