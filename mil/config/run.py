"""Settings of a run: one frozen model for each section of configs/config.yaml."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mil.config.base import LONGEST_NAME, Name, Section, as_text, checked
from mil.config.baseline import check_baseline
from mil.config.datasets import dataset_path, subsets_of
from mil.config.encoders import DEFAULT_ENCODER, load_encoders
from mil.config.joined import ENCODERS, is_joined, name_of_tiled, tiled_encoders
from mil.config.recipes import load_recipe
from mil.config.slide_encoders_of_run import check_slide_encoders
from mil.config.stain import NO_STAIN_NORM
from mil.errors import ConfigError, unknown_name


def _as_list(value: Any) -> Any:
    """Let a user write `head=abmil`, `head=[abmil,acmil]` or `head=abmil,acmil`."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value if isinstance(value, list) else as_text(value)


def _no_name_twice(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice; name each once")
    return names


def _none(value: Any) -> Any:
    """Let a user write `baseline=none`, `baseline=false` or `baseline=`."""
    return None if value is False or value in ("", "none") else value


# Slides of one patient: predicted one by one, or concatenated to one bag.
Fusion = Literal["late", "early"]
Names = Annotated[
    list[Name],
    BeforeValidator(_as_list),
    Field(min_length=1, max_length=1000),
    AfterValidator(_no_name_twice),
]
EncoderName = Annotated[str, Field(pattern=ENCODERS), BeforeValidator(as_text)]
EncoderNames = Annotated[
    list[EncoderName],
    BeforeValidator(_as_list),
    Field(min_length=1, max_length=1000),
    AfterValidator(_no_name_twice),
]
OptionalNames = Annotated[
    list[Name],
    BeforeValidator(_as_list),
    Field(max_length=1000),
    AfterValidator(_no_name_twice),
]


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


class Config(Section):
    """Everything a user can set for a run."""

    dataset: Name = Field("demo", description="Name of a dataset in configs/datasets.")
    subset: Name | None = Field(
        None,
        description="Part of the dataset that is a dataset of its own, such as mini: "
        "DATASET_SUBSET in configs/datasets.",
    )
    encoder: EncoderNames = Field(
        [DEFAULT_ENCODER],
        description="Name of an encoder in configs/encoders.yaml, or several; joined by + with "
        "their resolutions, such as uni@0.5+uni@1, they are one encoder whose features lie side by "
        "side.",
    )
    head: Names = Field(["abmil"], description="Name of a recipe in configs/heads, or several.")
    baseline: Annotated[Name | None, BeforeValidator(_none)] = Field(
        "linear_probe",
        description="Recipe of a probe that every study has beside its heads in the comparison, "
        "without heatmaps: linear_probe, a linear model of the mean of a slide's tiles, or "
        "linear_probe_std or knn; none: no baseline.",
    )
    slide_encoder: OptionalNames = Field(
        [],
        description="Slide encoders that make one vector of each slide: mean, mean_std, a "
        "published one of configs/slide_encoders, or a recipe of `head`, by the pooled rows of its "
        "heads; one or a list; empty: no vectors.",
    )
    seeds: int = Field(
        1, ge=1, description="Number of trainings of each head and fold, with seeds 1 to `seeds`."
    )
    # Part of file names, because the same fold number means other patients if their
    # number differs.
    folds: int = Field(
        1,
        ge=1,
        description="Number of folds; 1: one division, or as many as split.file or split.by "
        "define; k: k-fold cross-validation.",
    )
    fusion: Fusion = Field(
        "late",
        description="Slides of one patient; late: predicted one by one; early: concatenated to "
        "one bag.",
    )
    slides_dir: str | None = Field(
        None,
        description="Folder of the slides; if unset, that of the dataset's yaml, or data/DATASET.",
    )
    bags: str | None = Field(
        None,
        min_length=1,
        description="Folder of precomputed bags to train on: no slide is read, and encoder and "
        "tiling are those of the bags.",
    )
    # No result is recomputed where it changes.
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="Device that encoders and heads compute on; cpu: jobs ask for no GPU and use "
        "none; gpu: they ask for one and need it; auto: they ask for one where this machine has "
        "one, or on Slurm where a node has one.",
    )
    # A slip of one digit would plan for minutes, then train for weeks.
    max_trainings: int = Field(
        1000,
        ge=1,
        description="Largest number of trainings of a run: heads, encoders, seeds, folds, restarts "
        "and inner folds multiplied; a run with more is refused.",
    )
    allow_missing: bool = Field(
        False,
        description="Permission to continue without slides that cannot be used; the report "
        "lists them.",
    )
    # No image is published: a name that everybody could pull would promise one.
    container: str = Field(
        "mil.sif",
        min_length=1,
        description="Image of mil in which `snakemake --sdm apptainer` runs the jobs: a file, or "
        "an address such as docker://REGISTRY/mil@sha256:DIGEST.",
    )
    # In the run's configuration, which is the user's own: a dataset may come from others.
    trust_urls: bool = Field(
        False,
        description="Permission to fetch what the slide table names by `file:` outside the "
        "dataset's folder, or by `http:` without a checksum.",
    )
    fetch: FetchConfig = FetchConfig()
    tile: TileConfig = TileConfig()
    features: FeaturesConfig = FeaturesConfig()
    split: SplitConfig = SplitConfig()
    score: ScoreConfig = ScoreConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    heatmap: HeatmapConfig = HeatmapConfig()
    slides_per_job: SlidesPerJob = SlidesPerJob()

    @field_validator("slides_dir", "bags", "container", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        return as_text(value)

    @property
    def compared(self) -> list[str]:
        """Recipes that are compared: the heads, then the baseline unless it is one of them."""
        return list(dict.fromkeys([*self.head, *([self.baseline] if self.baseline else [])]))


def load_config(raw: dict[str, Any]) -> Config:
    """Check a run's whole configuration.

    Raises:
        ConfigError: one line that names every bad key.
    """
    config = checked(Config, raw, "config")
    config = config.model_copy(update={"dataset": _name_of_subset(config)})
    config = config.model_copy(update={"encoder": _names_of_entries(config)})
    check_slide_encoders(config.slide_encoder, config.head)
    # Precomputed bags are of the encoder that they state.
    if config.bags is None:
        check_finer_maps(config, config.encoder, "take the joined encoder out of `encoder`")
    check_trainings(config)
    if config.baseline is not None:
        check_baseline(config.baseline)
    return config


def _names_of_entries(config: Config) -> list[str]:
    """Names of the entries that the encoders stand for, each once."""
    encoders = load_encoders()
    names = []
    for name in config.encoder:
        try:
            canonical = name_of_tiled(tiled_encoders(name, config.tile, encoders))
            # Before hours of features: it becomes that of many folders.
            if len(canonical) > LONGEST_NAME:
                raise ConfigError(
                    f"the name of the joined encoders, {canonical[:LONGEST_NAME]}..., has "
                    f"{len(canonical)} characters, and at most {LONGEST_NAME} are possible; join "
                    "fewer"
                )
            names.append(canonical)
        except ConfigError as error:
            # Encoders of precomputed bags need no entry.
            if config.bags is None:
                raise ConfigError(f"config: encoder: {error}") from None
            names.append(name)
    # Two names may stand for one entry.
    return list(dict.fromkeys(names))


def check_finer_maps(config: Config, encoders: Sequence[str], remedy: str) -> None:
    """Refuse finer maps of joined encoders, before hours of training.

    Args:
        config: Settings of the run.
        encoders: Encoders of its bags.
        remedy: What to do but to set the stride to 1.

    Raises:
        ConfigError: The run would draw such maps.
    """
    joined = next((name for name in encoders if is_joined(name)), None)
    if joined and config.heatmap.cells_per_tile > 1:
        raise ConfigError(
            f"config: heatmap.stride: finer maps are of one encoder, not of joined ones "
            f"({joined}); set it to 1, or {remedy}"
        )


def _name_of_subset(config: Config) -> str:
    """Name of the dataset that a run is on: `dataset`, or its subset."""
    if config.subset is None:
        return config.dataset
    # Refused here where there is no such dataset.
    dataset_path(config.dataset)
    name = f"{config.dataset}_{config.subset}"
    subsets = subsets_of(config.dataset)
    if config.subset not in subsets:
        raise ConfigError(
            f"config: {unknown_name(f'subset of {config.dataset}', config.subset, subsets)}"
        )
    return name


def check_trainings(config: Config) -> None:
    """Check that a run trains no more often than `max_trainings`.

    Raises:
        ConfigError: It does, or a recipe cannot be used.
    """
    trained = [load_recipe(name).train for name in config.head]
    per_fold = sum(train.restarts * max(train.inner_folds, 1) for train in trained)
    number = per_fold * len(config.encoder) * config.seeds * config.folds
    if number > config.max_trainings:
        raise ConfigError(
            f"config: {number} trainings (encoders: {len(config.encoder)}, heads: "
            f"{len(config.head)}, with restarts and inner folds: {per_fold}, seeds: "
            f"{config.seeds}, folds: {config.folds}); a run has at most "
            f"max_trainings={config.max_trainings}: lower one of these, or raise it"
        )
