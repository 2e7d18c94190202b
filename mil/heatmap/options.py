"""Options of `mil heatmap`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import HeatmapConfig
from mil.config.options import option


class MapKind(StrEnum):
    """Kinds of map; typer takes no list of literals."""

    ATTENTION = "attention"
    ALONE = "alone"
    EFFECT = "effect"
    ROLLOUT = "rollout"


# One slide.
Score = Annotated[
    Path | None, typer.Option(help="Score file of the slide, written by `mil score`.")
]
Bag = Annotated[Path | None, typer.Option(help="Bag of the slide, which says where its tiles are.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Picture to write (.png); .geojson (QuPath), .ome.tiff, .csv and .tiles.jpg go "
        "beside it."
    ),
]
Tiles = Annotated[
    Path | None,
    typer.Option(
        help="Tiles file of the slide, beside its overview; with --dataset their folder; omit "
        "if precomputed."
    ),
]
SlideFile = Annotated[
    Path | None,
    typer.Option(help="Slide file, to be seen under the attention of a precomputed bag."),
]
Folds = Annotated[
    Path | None,
    typer.Option(help="File of the folds, to draw only heads that did not train on the slide."),
]
Annotation = Annotated[
    Path | None, typer.Option(help="File of regions to outline: .xml or .geojson.")
]
Scene = Annotated[
    str,
    typer.Option(help="Image of --slide that is the slide, in a file of several: name or number."),
]
# Maps.
Scale = Annotated[Literal["percentile", "relative", "raw"], option(HeatmapConfig, "scale")]
Kinds = Annotated[list[MapKind], option(HeatmapConfig, "kinds", "--kind")]
Branches = Annotated[bool, option(HeatmapConfig, "branches", "--branches")]
AnnotationClass = Annotated[
    list[str] | None,
    typer.Option(
        help="Class of the annotation to outline; repeat for several. "
        "Default: those named like the positive region."
    ),
]
# All slides of a dataset.
Dataset = Annotated[
    str,
    typer.Option(
        help="Dataset to draw, with --scores, --bags and --out-dir; what is current stays."
    ),
]
Scores = Annotated[Path | None, typer.Option(help="Folder of a dataset's score files.")]
Bags = Annotated[Path | None, typer.Option(help="Folder of a dataset's bags.")]
OutDir = Annotated[Path | None, typer.Option(help="Folder for the pictures of a dataset.")]
Slides = Annotated[Literal["all", "test"], option(HeatmapConfig, "slides")]
Sheet = Annotated[int, option(HeatmapConfig, "sheet", min=0, max=20)]
Script = Annotated[
    Path | None,
    typer.Option(
        help="Script for QuPath to write, which attaches all heatmaps below its folder; "
        "default: attach_heatmaps.groovy in --out-dir."
    ),
]
