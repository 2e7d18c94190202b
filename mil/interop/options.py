"""Options of `mil bags import`, some of which other commands of bags and heads share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Tool = Literal["clam", "trident", "stamp", "acmil"]

# Features of another tool and their bags.
Features = Annotated[
    Path, typer.Argument(help="File or folder of features that another tool wrote.")
]
OutBags = Annotated[Path, typer.Option(help="Folder for the bags.")]
FromTool = Annotated[
    Tool | None,
    typer.Option("--from", help="Tool that wrote the features; default: detected from the files."),
]
Patches = Annotated[
    Path | None,
    typer.Option(
        help="CLAM's folder of tile coordinates; default: a folder `patches` near the features."
    ),
]
Dtype = Annotated[
    Literal["float16", "float32"], typer.Option(help="Number type of the stored features.")
]

# Facts that the files may lack; what is stated by an option goes before what they state.
Encoder = Annotated[
    str, typer.Option(help="Encoder of the features, where the files do not name it.")
]
WeightsSha256 = Annotated[
    str, typer.Option(help="SHA-256 of the encoder's weights; heads then refuse other weights.")
]
Mpp = Annotated[
    float | None,
    typer.Option(min=0.001, help="Pixel size of level 0, µm per pixel, for all slides."),
]
MppTable = Annotated[
    Path | None,
    typer.Option(help="Table of pixel sizes: a column for the slide and a column `mpp`, µm."),
]
SlidesDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the slide images; only their pixel sizes, µm per pixel, are read."
    ),
]
SideLevel0Px = Annotated[
    float | None, typer.Option(min=1, help="Side of a tile on the slide, level-0 pixels.")
]
TilePx = Annotated[
    int | None, typer.Option(min=1, help="Side of a tile as the encoder saw it, pixels.")
]
TargetMpp = Annotated[
    float | None,
    typer.Option(min=0.001, help="Requested pixel size of a tile, µm; names the tiling."),
]

# A dataset of the imported bags: where it is written, its labels and its splits.
DatasetName = Annotated[str, typer.Option(help="Name of a dataset to write for the imported bags.")]
Datasets = Annotated[Path, typer.Option(help="Folder for the dataset's two files.")]
Labels = Annotated[
    Path | None,
    typer.Option(help="Table with the dataset's labels, of any tool: .csv, .tsv or .xlsx."),
]
SlideTable = Annotated[
    Path | None,
    typer.Option(help="STAMP's table of slides and patients; --labels is then its clini."),
]
Positive = Annotated[str, typer.Option(help="Class of interest; default: the last.")]
Split = Annotated[Path | None, typer.Option(help="File of predefined splits, of any tool.")]
Fold = Annotated[int | None, typer.Option(min=0, help="Fold of --split, as that file counts them.")]
ForceImport = Annotated[
    bool, typer.Option("--force", help="Overwrite existing bags and an existing dataset.")
]

ForceFolder = Annotated[
    bool, typer.Option("--force", help="Write into a folder that is not empty.")
]
