"""`mil heatmap` at the command line; the work is imported when it runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import HeatmapConfig
from mil.config.options import DatasetPart, GeojsonFrame, PartTable, SlidesDir, option
from mil.errors import DatasetError

DEFAULTS = HeatmapConfig()


class MapKind(StrEnum):
    """Kinds of map; typer takes no list of literals."""

    ATTENTION = "attention"
    ALONE = "alone"
    EFFECT = "effect"
    ROLLOUT = "rollout"


DEFAULT_KINDS = [MapKind(kind) for kind in DEFAULTS.kinds]


def heatmap(
    score: Annotated[
        Path | None, typer.Option(help="Score file of the slide, written by `mil score`.")
    ] = None,
    bag: Annotated[
        Path | None, typer.Option(help="Bag of the slide, which says where its tiles are.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Picture to write (.png); .geojson (QuPath), .ome.tiff, .csv and .tiles.jpg go "
            "beside it."
        ),
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="Tiles file of the slide, beside its overview; with --dataset their folder; omit "
            "if precomputed."
        ),
    ] = None,
    slide: Annotated[
        Path | None,
        typer.Option(help="Slide file, to be seen under the attention of a precomputed bag."),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="File of the folds, to draw only heads that did not train on the slide."),
    ] = None,
    annotation: Annotated[
        Path | None, typer.Option(help="File of regions to outline: .xml or .geojson.")
    ] = None,
    scene: Annotated[
        str,
        typer.Option(
            help="Image of --slide that is the slide, in a file of several: name or number."
        ),
    ] = "",
    scale: Annotated[
        Literal["percentile", "relative", "raw"], option(HeatmapConfig, "scale")
    ] = DEFAULTS.scale,
    kinds: Annotated[list[MapKind], option(HeatmapConfig, "kinds", "--kind")] = DEFAULT_KINDS,
    branches: Annotated[bool, option(HeatmapConfig, "branches", "--branches")] = DEFAULTS.branches,
    geojson_frame: GeojsonFrame = "scanned",
    annotation_class: Annotated[
        list[str] | None,
        typer.Option(
            help="Class of the annotation to outline; repeat for several. "
            "Default: those named like the positive region."
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            help="Dataset to draw, with --scores, --bags and --out-dir; what is current stays."
        ),
    ] = "",
    slides_dir: SlidesDir = None,
    scores: Annotated[Path | None, typer.Option(help="Folder of a dataset's score files.")] = None,
    bags: Annotated[Path | None, typer.Option(help="Folder of a dataset's bags.")] = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Folder for the pictures of a dataset.")
    ] = None,
    slides: Annotated[Literal["all", "test"], option(HeatmapConfig, "slides")] = DEFAULTS.slides,
    sheet: Annotated[int, option(HeatmapConfig, "sheet", min=0, max=20)] = DEFAULTS.sheet,
    part: DatasetPart = "",
    table: PartTable = None,
    script: Annotated[
        Path | None,
        typer.Option(
            help="Script for QuPath to write, which attaches all heatmaps below its folder; "
            "default: attach_heatmaps.groovy in --out-dir."
        ),
    ] = None,
) -> None:
    """Draw maps of slides: attention and evidence of tiles, mean over the heads that scored them.

    Example: mil heatmap --score scores/demo_01.h5 --bag BAGS/demo_01.h5 --out demo_01.png
    """
    from mil.heatmap.attach import SCRIPT, write_script
    from mil.heatmap.part import HeatmapFolders, HeatmapJob, draw_slide, jobs_of_part, probe_files
    from mil.io.part_jobs import finish, run_jobs
    from mil.io.tables.parts import parse_part

    chosen: tuple[Literal["attention", "alone", "effect", "rollout"], ...] = tuple(
        kind.value for kind in kinds
    )
    if dataset and scores and bags and out_dir:
        folders = HeatmapFolders(scores, bags, out_dir, tiles, slides_dir)
        jobs = jobs_of_part(
            dataset,
            folders,
            folds=folds,
            scale=scale,
            kinds=chosen,
            branches=branches,
            part=parse_part(part),
            only_test=slides == "test",
            sheet=sheet,
        )
        probe_files(jobs)
        write_script(script or out_dir / SCRIPT)
        finish("heatmap", run_jobs("heatmap", jobs, draw_slide), [table] if table else [])
    elif score and bag and out and not dataset:
        job = HeatmapJob(
            slide=bag.stem,
            score=score,
            bag=bag,
            out=out,
            scale=scale,
            tiles=tiles,
            file=slide,
            folds=folds,
            annotation=annotation,
            geojson_frame=geojson_frame,
            annotation_classes=tuple(annotation_class or ()),
            scene=scene,
            kinds=chosen,
            branches=branches,
            source=slide,
            sheet=sheet if slide else 0,
        )
        typer.echo(f"heatmap {draw_slide(job, job.outputs())}")
    else:
        raise DatasetError(
            "mil heatmap: one slide is --score, --bag and --out, a dataset is --dataset, --scores, "
            "--bags and --out-dir; give one of the two"
        )
