"""Options that several commands share, and help texts taken from the models."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mil.config.base import Section
from mil.config.stages import FeaturesConfig, TileConfig


def option(section: type[Section], field: str, *flags: str, **settings: Any) -> Any:
    """An option for a field of the configuration; its help is the field's description.

    The default is not taken from here, for a signature must show it: write
    `= DEFAULTS.min_tissue` with `DEFAULTS = TileConfig()`.

    Args:
        section: Model of the configuration that has the field.
        field: Name of the field.
        flags: Names of the option, where they are not the parameter's.
        settings: Further arguments of `typer.Option`, such as `min`.
    """
    return typer.Option(*flags, help=section.model_fields[field].description, **settings)


# Settings of tiling.
MinTissue = Annotated[float, option(TileConfig, "min_tissue")]
MinArea = Annotated[float, option(TileConfig, "min_area_mm2")]
MaxUpsample = Annotated[float, option(TileConfig, "max_upsample")]
ObjectivePower = Annotated[bool, option(TileConfig, "objective_power", "--objective-power")]
# Settings of features.
BatchSize = Annotated[int | None, option(FeaturesConfig, "batch_size", min=1)]
Precision = Annotated[Literal["auto", "fp32", "bf16", "fp16"], option(FeaturesConfig, "precision")]
FeatureDtype = Annotated[Literal["float16", "float32"], option(FeaturesConfig, "dtype")]
StainNorm = Annotated[Literal["none", "macenko"], option(FeaturesConfig, "stain_norm")]
MaxCorrupt = Annotated[float, option(FeaturesConfig, "max_corrupt")]
Compile = Annotated[bool, option(FeaturesConfig, "compile", "--compile")]
BagTables = Annotated[
    list[Path] | None,
    typer.Option(
        help="CSV to write once every slide of the part has its bag; repeat for each encoder."
    ),
]

# Labels of a new dataset, in a table of the user.
SlideColumn = Annotated[
    str | None, typer.Option(help="Column of slide names; default: recognised.")
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of labels; default: recognised.")]
PatientColumn = Annotated[str | None, typer.Option(help="Column of patients; default: recognised.")]
Task = Annotated[
    str,
    typer.Option(
        help="Kind of label: classification, multilabel, ordinal, regression, "
        "survival_discrete or survival_cox."
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        help="Classes of an ordinal task, from low to high, or of a multilabel one, separated by "
        "commas."
    ),
]
TimeColumn = Annotated[
    str | None, typer.Option(help="Column of survival times; default: recognised.")
]
EventColumn = Annotated[
    str | None,
    typer.Option(help="Column of survival events, 1 or 0 (censored); default: recognised."),
]
Relabel = Annotated[
    list[str] | None,
    typer.Option(help="Label to write in place of another, as OLD=NEW; repeat for several."),
]

Dataset = Annotated[
    str, typer.Option(help="Dataset: a name in configs/datasets, or the path of its yaml.")
]
SlidesDir = Annotated[
    Path | None, typer.Option(help="Folder of the slides; default: that of the dataset.")
]
DatasetPart = Annotated[
    str,
    typer.Option(
        "--part",
        help="Part of the dataset, such as 3/8: about an eighth of its slides, always the same.",
    ),
]
PartTable = Annotated[
    Path | None,
    typer.Option(help="CSV to write once every slide of the part has its output."),
]
RequireSlides = Annotated[
    bool,
    typer.Option(
        "--require-slides",
        help="Count a slide without its file as failed; by default it is recorded as unreadable.",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Device to compute on; auto: a GPU if there is one."),
]
Threads = Annotated[int, typer.Option(min=1, help="Number of CPU threads.")]
BagsDir = Annotated[Path, typer.Option("--bags", help="Folder of the bags.")]
Folds = Annotated[Path, typer.Option(help="File of the folds, written by `mil split`.")]
FoldNumbers = Annotated[
    list[int] | None,
    typer.Option(min=0, help="Number of the fold, from 0; repeat for several. Default: 0."),
]
GeojsonFrame = Annotated[
    Literal["scanned", "slide"],
    typer.Option(
        help="Origin of GeoJSON coordinates: the scanned part (QuPath), or the whole slide."
    ),
]
