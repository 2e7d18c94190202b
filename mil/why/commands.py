"""`mil why`."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import SlidesDir


def why(
    file: Annotated[
        Path,
        typer.Argument(
            help="Tiles file, bag, folds1.csv, head's folder, score file, vectors file, "
            "predictions.csv, metrics.json, heatmap or report.html."
        ),
    ],
    slide: Annotated[
        str, typer.Option(help="Slide of predictions.csv whose prediction is asked about.")
    ] = "",
    dataset: Annotated[
        str, typer.Option(help="Dataset, if it is not named like the folder of its results.")
    ] = "",
    slides_dir: SlidesDir = None,
) -> None:
    """Print how a result came about, and a command that makes the same bytes again.

    Digests that the file states are compared with its inputs as they are here.

    Example: mil why results/demo/heatmap/TILING/ENCODER/HEAD/demo_01.png
    """
    from mil.why.stage import run

    for line in run(file, slide=slide, dataset=dataset, slides_dir=slides_dir).lines():
        typer.echo(line)
