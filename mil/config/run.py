"""Settings of a run, and their checks before anything runs."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from mil.config.base import LONGEST_NAME, Name, Section, as_text, checked
from mil.config.baseline import check_baseline
from mil.config.datasets import dataset_path, subsets_of
from mil.config.encoders import DEFAULT_ENCODER, load_encoders
from mil.config.joined import is_joined, name_of_tiled, tiled_encoders
from mil.config.name_lists import EncoderNames, Names, OptionalNames
from mil.config.recipes import load_recipe
from mil.config.slide_encoders_of_run import check_slide_encoders
from mil.config.stages import (
    EvaluateConfig,
    FeaturesConfig,
    FetchConfig,
    HeatmapConfig,
    ScoreConfig,
    SlidesPerJob,
    SplitConfig,
    TileConfig,
)
from mil.errors import ConfigError, unknown_name

# Slides of one patient: predicted one by one, or concatenated to one bag.
Fusion = Literal["late", "early"]


def _none(value: Any) -> Any:
    """Let a user write `baseline=none`, `baseline=false` or `baseline=`."""
    return None if value is False or value in ("", "none") else value


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
