"""`mil heatmap` at the command line; the work is imported when it runs."""

from typing import Literal

import typer

from mil.config import HeatmapConfig
from mil.config.options import DatasetPart, GeojsonFrame, PartTable, SlidesDir
from mil.errors import DatasetError
from mil.heatmap import options

DEFAULTS = HeatmapConfig()
DEFAULT_KINDS = [options.MapKind(kind) for kind in DEFAULTS.kinds]


def heatmap(
    score: options.Score = None,
    bag: options.Bag = None,
    out: options.Out = None,
    tiles: options.Tiles = None,
    slide: options.SlideFile = None,
    folds: options.Folds = None,
    annotation: options.Annotation = None,
    scene: options.Scene = "",
    scale: options.Scale = DEFAULTS.scale,
    kinds: options.Kinds = DEFAULT_KINDS,
    branches: options.Branches = DEFAULTS.branches,
    geojson_frame: GeojsonFrame = "scanned",
    annotation_class: options.AnnotationClass = None,
    dataset: options.Dataset = "",
    slides_dir: SlidesDir = None,
    scores: options.Scores = None,
    bags: options.Bags = None,
    out_dir: options.OutDir = None,
    slides: options.Slides = DEFAULTS.slides,
    sheet: options.Sheet = DEFAULTS.sheet,
    part: DatasetPart = "",
    table: PartTable = None,
    script: options.Script = None,
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
