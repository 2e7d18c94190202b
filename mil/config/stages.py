"""Settings of the stages of a run: one frozen model for each section of configs/config.yaml."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mil.config.base import Section, as_text
from mil.config.stain import NO_STAIN_NORM


class TileConfig(Section):
    """Settings of stage `tile`: tissue and tiles."""

    # Smaller ones are a slip: they hold less than one nucleus, and are millions.
    size_px: int | None = Field(
        None, ge=16, description="Side of a tile, pixels; if unset, that of the encoder."
    )
    mpp: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Resolution of a tile, micrometres per pixel; if unset, that of the encoder.",
    )
    # Thresholds of tissue are absolute, never relative to the slide: a faint lymph
    # node, or a needle biopsy on a large slide, must be kept (docs/explain/slides.md).
    min_tissue: float = Field(
        0.25, ge=0, le=1, description="Smallest fraction of a tile that must be tissue, 0 to 1."
    )
    min_area_mm2: float = Field(
        0.02,
        ge=0,
        allow_inf_nan=False,
        description="Smallest area of a tissue region to keep, mm².",
    )
    max_upsample: float = Field(
        2.0,
        ge=1,
        description="Largest factor by which a slide's pixels may be enlarged to the tiles' "
        "resolution; coarser slides are refused.",
    )
    # Off by default, because the objective power is nominal: scanners of 40x have 0.22
    # to 0.28 µm/px.
    objective_power: bool = Field(
        False,
        description="Permission to estimate the pixel size as 10 µm divided by the objective "
        "power where a slide states no better one.",
    )


StainNorm = Literal["none", "macenko"]


class FeaturesConfig(Section):
    """Settings of stage `features`: the encoder and its bags."""

    # The default depends on model and device, never on free memory: else a busy GPU
    # would give other features, in the last bits, than an idle one.
    batch_size: int | None = Field(
        None,
        gt=0,
        description="Tiles per batch of the encoder; if unset, 16 on a CPU, and as many as its "
        "memory holds on a GPU.",
    )
    # Features of two precisions differ a little; fp32 makes machines comparable
    # (docs/how-to/encoders.md).
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Precision of the encoder; auto: one that the device is fast in."
    )
    # Features do not compress, and a bag is read whole: half the bytes, half the time.
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="Data type of the features stored in a bag."
    )
    # Off: on composite slides it does not help (docs/results/composite.md).
    stain_norm: StainNorm = Field(
        NO_STAIN_NORM,
        description="Stain normalisation of the tiles of a slide before the encoder: none; or "
        "macenko, of hematoxylin and eosin, estimated once a slide and tiling.",
    )
    max_corrupt: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Largest fraction of a slide's tiles that may be unreadable, 0 to 1.",
    )
    # Like `batch_size`, no setting that a bag depends on: changing it recomputes
    # nothing.
    compile: bool = Field(
        False,
        description="Use of torch.compile: it costs half a minute or more at each start, and "
        "pays off for very large slides.",
    )


class SplitConfig(Section):
    """Settings of stage `split`: division of patients into train, val and test."""

    file: str | None = Field(
        None,
        min_length=1,
        description="Predefined splits, used as they are: the folds.csv of another run, or files "
        "of CLAM, ACMIL or STAMP.",
    )
    by: str | None = Field(
        None,
        min_length=1,
        description="Column of the slide table, such as the centre; each of its values is the "
        "test set of one fold.",
    )

    val_share: float = Field(
        0.2, gt=0, lt=1, description="Fraction of the training patients used for validation."
    )
    test_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Fraction of patients held out where the slide table names no test set.",
    )
    # Apart from the seeds of training, so that trainings with different seeds share
    # their folds.
    seed: int = Field(0, ge=0, description="Random seed of the division.")

    @field_validator("file", "by", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        return as_text(value)

    @model_validator(mode="after")
    def _one_source(self) -> "SplitConfig":
        if self.file is not None and self.by is not None:
            raise ValueError("file and by both define the folds; keep one")
        return self


# Evidence of tiles that is computed, see docs/explain/evidence.md.
Evidence = Literal["all", "exact", "none"]


class ScoreConfig(Section):
    """Settings of stage `score`: evidence of tiles."""

    evidence: Evidence = Field(
        "all",
        description="Evidence of each tile beside attention: all; exact, of heads that pool alone, "
        "where estimates for large bags of other heads take too long; or none.",
    )


# What is left out of heads, one at a time.
Ablate = Literal["none", "branches"]


class EvaluateConfig(Section):
    """Settings of stage `evaluate`: what is measured beside the predictions."""

    ablate: Ablate = Field(
        "none",
        description="Parts of heads that are left out one at a time, to measure what each does: "
        "none; or branches, of heads with several branches, queries or attention heads.",
    )


# Cells of finer maps along a tile's side, and a thousandth for 0.333.
MOST_PARTS = 8
STRIDE_TOLERANCE = 1e-3


class HeatmapConfig(Section):
    """Settings of stage `heatmap`: slides, kinds of map, colour scale and tile sheet."""

    slides: Literal["all", "test"] = Field(
        "all", description="Slides that get a heatmap: all, or those of the table's test split."
    )
    kinds: list[Literal["attention", "alone", "effect", "rollout"]] = Field(
        ["attention", "effect", "rollout"],
        min_length=1,
        max_length=4,
        description="Kinds of map that get a picture: attention, which is always drawn; effect, "
        "the evidence lost when a tile is removed; alone, the evidence of a tile alone; rollout, "
        "of heads that mix tiles, the attention to the tiles before mixing.",
    )
    scale: Literal["percentile", "relative", "raw"] = Field(
        "percentile",
        description="Colour scale of attention: its percentile within the slide, its multiple of "
        "uniform attention, or its share of the slide.",
    )
    branches: bool = Field(
        False,
        description="A picture and columns of each branch's attention, for heads of several "
        "branches such as ACMIL.",
    )
    sheet: int = Field(
        8,
        ge=0,
        le=20,
        description="Tiles in a row of the tile sheet, SLIDE.tiles.jpg, drawn where the slide is "
        "on the disk; 0: no sheet.",
    )
    stride: float = Field(
        1.0,
        description="Distance of neighbouring tiles of finer maps as a share of a tile, such as "
        "0.25; 1: no finer maps. The attended region is read and embedded again.",
    )

    @field_validator("stride")
    @classmethod
    def _divides_a_tile(cls, stride: float) -> float:
        parts = [1 / number for number in range(1, MOST_PARTS + 1)]
        if not any(abs(stride - part) < STRIDE_TOLERANCE for part in parts):
            raise ValueError("is 1, or a share that divides a tile evenly: 0.5, 0.25 or 0.125")
        return stride

    @property
    def cells_per_tile(self) -> int:
        """Cells of finer maps along a tile's side; 1: there are none."""
        return round(1 / self.stride)


class FetchConfig(Section):
    """Settings of stage `fetch`: files that the slide table names by URL."""

    download: bool = Field(
        True,
        description="Permission to download files that are missing; false: a run on the slides "
        "that are there.",
    )
    keep: bool = Field(
        True,
        description="Downloaded slides stay on the disk; false: each is removed as soon as its "
        "tiles and bags are made.",
    )
    slots: int = Field(
        8,
        ge=1,
        le=10_000,
        description="Largest number of fetched slides on the disk at a time where `fetch.keep` "
        "is false.",
    )


class SlidesPerJob(Section):
    """Number of slides that a job takes, by stage; outputs stay one file for each slide."""

    tile: int = Field(16, ge=1, description="Number of slides, roughly, in a job of `tile`.")
    features: int = Field(
        8, ge=1, description="Number of slides that a job of `features` takes, roughly."
    )
    score: int = Field(
        64, ge=1, description="Number of slides that a job of `score` or `embed` takes, roughly."
    )
    heatmap: int = Field(
        32, ge=1, description="Number of slides that a job of `heatmap` takes, roughly."
    )
