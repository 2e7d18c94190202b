"""`mil bags …` at the command line; the work is imported when a command is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import options as shared
from mil.config.options import BagsDir, Dataset
from mil.interop import options
from mil.interop.bag_set_commands import bags_fetch, bags_sets

bags_app = typer.Typer(
    help="Feature bags: published ones, import and export for other tools, verify, list.",
    no_args_is_help=True,
)
bags_app.command("fetch")(bags_fetch)
bags_app.command("sets")(bags_sets)

# Formats of slides as vectors beside those of bags.
Target = Literal["clam", "trident", "stamp", "acmil", "anndata", "parquet"]
BagFolder = Annotated[Path, typer.Argument(help="Folder of the bags.")]


@bags_app.command("import")
def bags_import(
    path: options.Features,
    out: options.OutBags,
    tool: options.FromTool = None,
    encoder: options.Encoder = "",
    weights_sha256: options.WeightsSha256 = "",
    mpp: options.Mpp = None,
    mpp_table: options.MppTable = None,
    slides_dir: options.SlidesDir = None,
    side_level0_px: options.SideLevel0Px = None,
    tile_px: options.TilePx = None,
    target_mpp: options.TargetMpp = None,
    patches: options.Patches = None,
    dtype: options.Dtype = "float16",
    dataset: options.DatasetName = "",
    labels: options.Labels = None,
    slide_table: options.SlideTable = None,
    slide_column: shared.SlideColumn = None,
    label_column: shared.LabelColumn = None,
    patient_column: shared.PatientColumn = None,
    task: shared.Task = "classification",
    classes: shared.Classes = "",
    time_column: shared.TimeColumn = None,
    event_column: shared.EventColumn = None,
    positive: options.Positive = "",
    relabel: shared.Relabel = None,
    split: options.Split = None,
    fold: options.Fold = None,
    datasets: options.Datasets = Path("configs/datasets"),
    force: options.ForceImport = False,
) -> None:
    """Import another tool's features as bags; --dataset also writes a dataset to train on."""
    from mil.config import dataset_argument
    from mil.interop.header import HeaderFields
    from mil.interop.import_bags import run
    from mil.interop.import_dataset import DatasetOptions
    from mil.interop.labels import ColumnNames
    from mil.interop.messages import import_lines
    from mil.interop.pixel_size import PixelSizeOptions
    from mil.io.tables.label_options import LabelOptions

    # All other options of a dataset are ignored without its name.
    dataset_options = None
    if dataset:
        dataset_options = DatasetOptions(
            name=dataset,
            folder=datasets,
            labels=labels,
            slide_table=slide_table,
            columns=ColumnNames(slide=slide_column, label=label_column, patient=patient_column),
            split=split,
            fold=fold,
            positive=positive,
            relabel=relabel or [],
            label_options=LabelOptions(
                task=task, classes=classes, time_column=time_column, event_column=event_column
            ),
            force=force,
        )
    stated = HeaderFields(
        encoder=encoder,
        weights_sha256=weights_sha256,
        tile_px=tile_px,
        target_mpp=target_mpp,
        side_level0_px=side_level0_px,
    )
    result = run(
        path,
        out,
        tool=tool,
        stated=stated,
        dtype=dtype,
        sizes=PixelSizeOptions(
            mpp=mpp, table=mpp_table, slides_dir=slides_dir, slide_column=slide_column
        ),
        patches=patches,
        dataset=dataset_options,
        force=force,
    )
    for line in import_lines(result, out, dtype):
        typer.echo(line)
    # The next step, ready to be copied.
    if dataset and not result.faults:
        name = dataset_argument(datasets / f"{dataset}.yaml")
        typer.echo(f"now: snakemake --cores all --config dataset={name}")
    raise typer.Exit(1 if result.faults else 0)


@bags_app.command("export")
def bags_export(
    bags: Annotated[
        Path,
        typer.Argument(
            help="Folder of the bags; for anndata and parquet, of the vectors of `mil embed`."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the other tool's files; for anndata and parquet the file, .h5ad or "
            ".parquet."
        ),
    ],
    target: Annotated[
        Target,
        typer.Option(
            "--to",
            "--format",
            help="Tool whose file format is written; anndata and parquet: one table of the "
            "slides' vectors.",
        ),
    ],
    # Tables that go with the bags.
    dataset: Annotated[
        str,
        typer.Option(help="Dataset whose labels are written too: a name, or a yaml file."),
    ] = "",
    folds: Annotated[
        Path | None,
        typer.Option(help="Folds file of `mil split`; default: the dataset's own split."),
    ] = None,
    magnification: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Nominal magnification for TRIDENT, such as 20, where bags have no target.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the head whose vectors are exported.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Fold of the head whose vectors are exported.")
    ] = None,
    force: options.ForceFolder = False,
) -> None:
    """Export bags as another tool's files, or vectors of slides as one table."""
    if target in ("anndata", "parquet"):
        from mil.interop.export_vectors import run as run_vectors
        from mil.interop.messages import vector_lines

        table = run_vectors(
            bags, out, file_format=target, dataset=dataset, folds=folds, seed=seed, fold=fold
        )
        lines = vector_lines(table, target, out)
    else:
        from mil.interop.export_bags import run
        from mil.interop.messages import export_lines

        result = run(
            bags,
            out,
            tool=target,
            dataset=dataset,
            folds=folds,
            magnification=magnification,
            force=force,
        )
        lines = export_lines(result, target, out)
    for line in lines:
        typer.echo(line)


@bags_app.command("verify")
def bags_verify(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Bags, files of another tool, or folders of either."),
    ],
) -> None:
    """Check bags for damage and for bags that differ from the rest of their folder.

    Nothing is changed. The exit code is 1 if there is a fault.
    """
    from mil.interop.verify import run

    verification = run(paths)
    for line in (*verification.faults, *verification.notes):
        typer.echo(line)
    typer.echo(f"{verification.bags} bags, {len(verification.faults)} faults")
    raise typer.Exit(1 if verification.faults else 0)


@bags_app.command("ls")
def bags_ls(folder: BagFolder) -> None:
    """List the bags of a folder: tiles, features, encoder, tiling, state and size."""
    from mil.interop.show import bag_table

    typer.echo(bag_table(folder))


@bags_app.command("table")
def bags_table(
    dataset: Dataset,
    bags: BagsDir,
    out: Annotated[Path, typer.Option(help="CSV to write, with slide and digest of each bag.")],
) -> None:
    """List the bags of a dataset with a digest of each, by which a changed bag shows."""
    from mil.io.bags.table import write_bags_table

    number = write_bags_table(dataset, bags, out)
    typer.echo(f"bags: {number} in {bags}")


@bags_app.command("info")
def bags_info(
    file: Annotated[
        Path, typer.Argument(help="A bag, a vectors file, or another tool's file of a slide.")
    ],
) -> None:
    """Print the content of one file of features, and the facts that it lacks."""
    from mil.interop.show import bag_info

    for line in bag_info(file):
        typer.echo(line)
