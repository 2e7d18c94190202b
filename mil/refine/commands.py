"""`mil refine` at the command line; the work is imported when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import HeatmapConfig
from mil.config.options import DatasetPart, Device, PartTable, SlidesDir, Threads, option
from mil.errors import DatasetError

DEFAULTS = HeatmapConfig()


def refine(
    head_dir: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a trained head, or of several (seeds and folds of one recipe); repeat "
            "for more."
        ),
    ],
    slide: Annotated[Path | None, typer.Option(help="Slide file.")] = None,
    bag: Annotated[Path | None, typer.Option(help="Bag of the slide.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Picture to write (.png); a table of its cells (.csv) goes beside it."),
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="Tiles file of the slide; with --dataset their folder; omit if precomputed."
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="File of the folds, to use only heads that did not train on the slide."),
    ] = None,
    stride: Annotated[
        float, typer.Option(help="Distance of neighbouring tiles, as a share of a tile.")
    ] = 0.25,
    percentile: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="Percentile of attention from which tiles are read again."
        ),
    ] = 90.0,
    most: Annotated[
        int, typer.Option(min=1, max=100_000, help="Largest number of tiles to read of a slide.")
    ] = 4096,
    dataset: Annotated[
        str,
        typer.Option(
            help="Dataset to refine, with --scores, --bags, --folds and --out-dir; what is "
            "current stays."
        ),
    ] = "",
    slides_dir: SlidesDir = None,
    scores: Annotated[Path | None, typer.Option(help="Folder of a dataset's score files.")] = None,
    bags: Annotated[Path | None, typer.Option(help="Folder of a dataset's bags.")] = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Folder for the finer maps of a dataset.")
    ] = None,
    slides: Annotated[Literal["all", "test"], option(HeatmapConfig, "slides")] = DEFAULTS.slides,
    part: DatasetPart = "",
    table: PartTable = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Draw finer maps: the attended region read again with overlapping tiles.

    Example: mil refine --slide demo_12.tif --bag BAGS/demo_12.h5 --head-dir HEADS --out fine.png
    """
    from mil.config import Config, checked, config_path, read_yaml
    from mil.heatmap.part import HeatmapFolders
    from mil.io.part_jobs import finish, run_jobs
    from mil.io.tables.parts import parse_part
    from mil.refine.part import Refiner, jobs_of_part
    from mil.refine.stage import RefineSettings, check_independent, run

    checked_stride = checked(HeatmapConfig, {"stride": stride}, "--stride")
    if checked_stride.cells_per_tile == 1:
        raise DatasetError(f"--stride {stride:g}: finer maps have a stride of 0.5 or less")
    config_file = config_path("config.yaml")
    config = checked(Config, read_yaml(config_file), str(config_file))
    settings = RefineSettings(checked_stride.cells_per_tile, percentile, most, threads)
    refiner = Refiner(head_dir, config.features, device)
    if dataset and scores and bags and folds and out_dir:
        folders = HeatmapFolders(scores, bags, out_dir, tiles, slides_dir)
        jobs = jobs_of_part(
            dataset,
            folders,
            folds=folds,
            part=parse_part(part),
            only_test=slides == "test",
            settings=settings,
            say=typer.echo,
        )
        finish("refine", run_jobs("refine", jobs, refiner.draw), [table] if table else [])
    elif slide and bag and out and not dataset:
        # Before the encoder is built, which takes seconds.
        check_independent(refiner.ensemble)
        line = run(slide, bag, tiles, refiner.ensemble, refiner.runner, out, settings, folds=folds)
        typer.echo(f"refine {line}")
    else:
        raise DatasetError(
            "mil refine: one slide is --slide, --bag and --out, a dataset is --dataset, --scores, "
            "--bags, --folds and --out-dir; give one of the two"
        )
