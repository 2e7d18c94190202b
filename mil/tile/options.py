"""Options of `mil tile`."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import TileConfig
from mil.config.options import option

# One slide.
SlideFile = Annotated[
    Path | None, typer.Option(help="Path of the slide image, such as a .svs or .tif.")
]
Out = Annotated[
    Path | None, typer.Option(help="Tiles file to write, .h5; its pictures go beside it.")
]
Name = Annotated[
    str, typer.Option(help="Id of the slide; empty: its file's name without the ending.")
]
# Size and scale of tiles.
Encoder = Annotated[
    str,
    typer.Option(help="Encoder (configs/encoders.yaml) that sets tile size and resolution."),
]
SizePx = Annotated[int | None, option(TileConfig, "size_px", min=16)]
TargetMpp = Annotated[float | None, option(TileConfig, "mpp", min=0.001)]
# What is known of the slide.
Mpp = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Pixel size of level 0, micrometres; it overrides what the slide's file states.",
    ),
]
Scene = Annotated[
    str,
    typer.Option(
        help="Name or number of the image to read where the slide's file holds several; "
        "empty: the largest that is neither a label nor an overview."
    ),
]
TissueFile = Annotated[
    Path | None,
    typer.Option(help="Mask of the tissue that replaces detection: .geojson, .xml, .png, .tif."),
]
RegionFile = Annotated[
    Path | None,
    typer.Option(help="Region that tiles are restricted to: .geojson, .xml, .png, .tif."),
]
# All slides of a dataset.
Dataset = Annotated[
    str, typer.Option(help="Dataset to tile, with --out-dir in place of --slide and --out.")
]
OutDir = Annotated[Path | None, typer.Option(help="Folder for the tiles files of a dataset.")]
