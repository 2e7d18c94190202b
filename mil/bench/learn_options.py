"""Options of `mil bench learn`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

# The tiles, and what is trained on them.
LabelledTiles = Annotated[
    Path,
    typer.Argument(
        help="Folder of labelled tiles, as for `mil demo composites`: PatchCamelyon, for example."
    ),
]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        help="Name or file of a recipe; repeat for several; default: the heads of the "
        "published table."
    ),
]
Loops = Annotated[
    list[str] | None,
    typer.Option(
        help="Training of the heads, own or published; own: as the recipe says; published: "
        "one bag a step at 1e-4 for 50 epochs; repeat for both; default: own."
    ),
]
Against = Annotated[
    str,
    typer.Option(
        help="Reference of a second table with paired differences: a row of the table, or "
        "published or own for the same recipe with that loop; default: none."
    ),
]
# Cohorts of composite slides.
Cohorts = Annotated[int, typer.Option(min=0, help="Number of cohorts that are drawn.")]
ToolSeeds = Annotated[
    list[int] | None,
    typer.Option(
        min=0,
        help="Seed of `mil demo composites` whose training and validation slides are one "
        "more cohort; repeat for several.",
    ),
]
Seeds = Annotated[
    int, typer.Option(min=1, help="Number of trainings of each recipe on each cohort.")
]
TrainSlides = Annotated[int, typer.Option(min=2, help="Number of training slides.")]
ValSlides = Annotated[int, typer.Option(min=2, help="Number of validation slides.")]
TestSlides = Annotated[int, typer.Option(min=2, help="Number of slides of the test set.")]
SecondTestSlides = Annotated[
    int, typer.Option(min=2, help="Number of slides of the second test set.")
]
Witness = Annotated[
    float, typer.Option(min=0, max=1, help="Share of tumour tiles in a positive slide.")
]
StainShift = Annotated[
    bool,
    typer.Option(
        "--stain-shift",
        help="Second test set of another stain: tiles are divided into two groups by their "
        "colour, as of two centres, and all other slides are of one group.",
    ),
]
# Encoding of the tiles, and the run.
Encoder = Annotated[str, typer.Option(help="Name of an encoder in configs/encoders.yaml.")]
Stains = Annotated[
    int, typer.Option(min=4, max=64, help="Number of stains that tiles are encoded under.")
]
MaxTiles = Annotated[
    int,
    typer.Option(
        min=2, help="Largest number of tiles; of more, half of it is drawn of each class."
    ),
]
Bank = Annotated[
    Path | None,
    typer.Option(
        help="Folder for encoded tiles, which later runs use again; default: learn-bank "
        "beside the file of --json, or else in the working directory."
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Device of the encoder; auto: a GPU if there is one."),
]
Threads = Annotated[
    int,
    typer.Option(min=1, help="Number of threads of the encoder, then of parallel trainings."),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="JSON file of the results, written after each training; an existing one is resumed.",
    ),
]
