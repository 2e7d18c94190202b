"""What a user can set for a run: one model a section."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mil.config.base import Name, Section, checked
from mil.config.encoders import load_encoders
from mil.config.recipes import load_recipe
from mil.errors import ConfigError, unknown_name


def _one_or_many(value: Any) -> Any:
    """Let a user write `head=abmil` or `head=[abmil,acmil]`, and `head=abmil,acmil` too."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value


Fusion = Literal[
    "late", "early"
]  # slides of one patient: predicted one by one, or laid end to end as one bag
Names = Annotated[list[Name], BeforeValidator(_one_or_many), Field(min_length=1)]


class TileConfig(Section):
    """How a slide is cut into tiles."""

    size_px: int | None = Field(
        None, gt=0, description="side of a tile, pixels; empty: what the encoder asks for"
    )
    mpp: float | None = Field(
        None, gt=0, description="micrometres per pixel; empty: what the encoder asks for"
    )
    min_tissue: float = Field(0.25, ge=0, le=1, description="least share of a tile that is tissue")
    min_area_mm2: float = Field(
        0.02, ge=0, description="smaller pieces of tissue are dropped, square millimetres"
    )
    max_upsample: float = Field(
        2.0, ge=1, description="a slide coarser than this many times the target is refused"
    )
    objective_power: bool = Field(
        False,
        description="take 10 µm over the objective power for the pixel size where nothing better is said",
    )


class FeaturesConfig(Section):
    """How tiles become features."""

    batch_size: int | None = Field(
        None,
        gt=0,
        description="tiles per step of the encoder; empty: 16 on a CPU, what its memory holds on a GPU",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: what the device is fast in"
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="of the features in the bag file"
    )
    max_corrupt: float = Field(
        0.01, ge=0, le=1, description="largest share of tiles that may be unreadable"
    )
    compile: bool = Field(
        False,
        description="torch.compile: half a minute or more at each start, pays for very large slides",
    )


class SplitConfig(Section):
    """How patients are divided."""

    file: str | None = Field(
        None,
        min_length=1,
        description="folds.csv of another run, or splits of CLAM, ACMIL, STAMP: taken as they are",
    )
    by: str | None = Field(
        None,
        min_length=1,
        description="a column of the slide table, such as the centre: each value is once the test",
    )

    val_share: float = Field(
        0.2, gt=0, lt=1, description="share of the training patients used for validation"
    )
    test_share: float = Field(
        0.25, gt=0, lt=1, description="share of patients held out when the table names no test"
    )
    seed: int = Field(0, ge=0, description="of the random division")

    @model_validator(mode="after")
    def _one_source(self) -> "SplitConfig":
        if self.file is not None and self.by is not None:
            raise ValueError("file and by both say the folds; keep one")
        return self


class HeatmapConfig(Section):
    """How attention is drawn."""

    slides: Literal["all", "test"] = Field(
        "all", description="test: only those the slide table calls test"
    )
    scale: Literal["percentile", "relative"] = Field(
        "percentile", description="ranks, or multiples of uniform attention"
    )


class Config(Section):
    """Everything a user can set for a run."""

    dataset: Name = Field("demo", description="a name in configs/datasets")
    encoder: Names = Field(
        ["efficientnet_lite0"], description="one or several names in configs/encoders.yaml"
    )
    head: Names = Field(["abmil"], description="one or several names in configs/heads")
    seeds: int = Field(1, ge=1, description="each head is trained with seeds 1 .. seeds")
    folds: int = Field(
        1,
        ge=1,
        description="1: one division, or as many as split.file or split.by say; k: k-fold cross-validation",
    )
    fusion: Fusion = Field(
        "late",
        description="slides of one patient; late: predicted one by one, early: laid end to end as one bag",
    )
    slides_dir: str | None = Field(None, description="where the slides are; empty: data/DATASET")
    bags: str | None = Field(
        None,
        min_length=1,
        description="folder of ready bags: train on them, no slides are read; encoder and tiling are theirs",
    )
    allow_missing: bool = Field(
        False, description="go on without slides that are not ok; the report lists them"
    )
    tile: TileConfig = TileConfig()
    features: FeaturesConfig = FeaturesConfig()
    split: SplitConfig = SplitConfig()
    heatmap: HeatmapConfig = HeatmapConfig()


def load_config(raw: dict[str, Any]) -> Config:
    """Check a run's whole configuration.

    Raises:
        ConfigError: one line that names every bad key.
    """
    config = checked(Config, raw, "config")
    encoders = load_encoders()
    for name in config.encoder:
        if name not in encoders and config.bags is None:
            raise ConfigError(f"config: encoder: {unknown_name('encoder', name, encoders)}")
    for name in config.head:
        load_recipe(name)
    return config
