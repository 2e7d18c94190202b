"""`mil heatmap` at the command line; the work is imported when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import HeatmapConfig
from mil.config.options import GeojsonFrame, option

DEFAULTS = HeatmapConfig()


def heatmap(
    score: Annotated[Path, typer.Option(help="Score file of the slide, written by `mil score`.")],
    bag: Annotated[Path, typer.Option(help="Bag of the slide, which says where its tiles are.")],
    out: Annotated[
        Path,
        typer.Option(help="Picture to write (.png); .geojson (QuPath) and .csv go beside it."),
    ],
    tiles: Annotated[
        Path | None,
        typer.Option(help="Tiles file of the slide, beside its overview; omit if precomputed."),
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
    scale: Annotated[
        Literal["percentile", "relative"], option(HeatmapConfig, "scale")
    ] = DEFAULTS.scale,
    geojson_frame: GeojsonFrame = "scanned",
    annotation_class: Annotated[
        list[str] | None,
        typer.Option(
            help="Class of the annotation to outline; repeat for several. "
            "Default: those named like the positive region."
        ),
    ] = None,
) -> None:
    """Draw the attention of a slide, mean over the heads that scored it.

    Example: mil heatmap --score scores/demo_01.h5 --bag BAGS/demo_01.h5 --out demo_01.png
    """
    from mil.heatmap.stage import run

    line = run(
        score,
        bag,
        tiles,
        out,
        slide=slide,
        folds=folds,
        annotation=annotation,
        scale=scale,
        geojson_frame=geojson_frame,
        annotation_classes=annotation_class or (),
    )
    typer.echo(f"heatmap {line}")
