"""The configuration, checked whole at the door: every section, recipe, encoder and dataset as a frozen model."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mil.errors import ConfigError, unknown_name

# Names become folder names: letters, digits, dots, dashes and underscores, never a path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME)]


def _one_or_many(value: Any) -> Any:
    """Let a user write `head=abmil` or `head=[abmil,acmil]`, and `head=abmil,acmil` too."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value


Names = Annotated[list[Name], BeforeValidator(_one_or_many), Field(min_length=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TileConfig(Section):
    """How a slide is cut into tiles."""

    size_px: int | None = Field(None, gt=0, description="side of a tile, pixels; empty: what the encoder asks for")
    mpp: float | None = Field(None, gt=0, description="micrometres per pixel; empty: what the encoder asks for")
    min_tissue: float = Field(0.25, ge=0, le=1, description="least share of a tile that is tissue")
    min_area_mm2: float = Field(0.02, ge=0, description="smaller pieces of tissue are dropped, square millimetres")
    max_upsample: float = Field(2.0, ge=1, description="a slide coarser than this many times the target is refused")


class FeaturesConfig(Section):
    """How tiles become features."""

    batch_size: int = Field(64, gt=0, description="tiles per step of the encoder")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device is fast in it")
    dtype: Literal["float16", "float32"] = Field("float16", description="of the features in the bag file")
    max_corrupt: float = Field(0.01, ge=0, le=1, description="largest share of tiles that may be unreadable")


class SplitConfig(Section):
    """How patients are divided."""

    val_share: float = Field(0.2, gt=0, lt=1, description="share of the training patients used for validation")
    test_share: float = Field(0.25, gt=0, lt=1, description="share of patients held out when the table names no test")
    seed: int = Field(0, ge=0, description="of the random division")


class HeatmapConfig(Section):
    """How attention is drawn."""

    slides: Literal["all", "test"] = Field("all", description="test: only those the slide table calls test")
    scale: Literal["percentile", "relative"] = Field(
        "percentile", description="ranks, or multiples of uniform attention"
    )


class Config(Section):
    """Everything a user can set for a run."""

    dataset: Name = Field("demo", description="a name in configs/datasets")
    encoder: Names = Field(["efficientnet_lite0"], description="one or several names in configs/encoders.yaml")
    head: Names = Field(["abmil"], description="one or several names in configs/heads")
    seeds: int = Field(1, ge=1, description="each head is trained with seeds 1 .. seeds")
    folds: int = Field(1, ge=1, description="1: one division of the patients; k: k-fold cross-validation")
    slides_dir: str | None = Field(None, description="where the slides are; empty: data/DATASET")
    allow_missing: bool = Field(False, description="go on without slides that are not ok; the report lists them")
    tile: TileConfig = TileConfig()
    features: FeaturesConfig = FeaturesConfig()
    split: SplitConfig = SplitConfig()
    heatmap: HeatmapConfig = HeatmapConfig()


class EncoderConfig(Section):
    """One entry of configs/encoders.yaml: a timm model, its weights, and the tiles it wants."""

    timm: str = Field(description="model name for timm.create_model, hf-hub: names included")
    args: dict[str, Any] = Field({}, description="further arguments of timm.create_model")
    dim: int = Field(gt=0, description="length of a tile's feature vector")
    tile_px: int = Field(224, gt=0, description="side of a tile, pixels")
    mpp: float = Field(0.5, gt=0, description="micrometres per pixel that the encoder sees")
    weights: str = Field("timm", description="timm; package:PACKAGE/FILE; random; or a path to a file")
    keys: Literal["name", "order"] = Field("name", description="order: same tensors in the same order, other names")
    mean: tuple[float, float, float] | None = Field(None, description="of the channels; empty: timm's for this model")
    std: tuple[float, float, float] | None = Field(None, description="of the channels; empty: timm's for this model")
    licence: str = Field(description="of the weights")

    @property
    def tiling(self) -> str:
        """Folder name of the tiles this encoder wants, such as `224px_0.5mpp`."""
        return tiling_name(self.tile_px, self.mpp)


class LossWeight(Section):
    """Weight of a loss term, constant or annealed along half a cosine."""

    start: float = Field(ge=0, description="weight at the first step")
    end: float | None = Field(None, ge=0, description="weight at the last step; empty: constant")


def _weight(value: Any) -> Any:
    return {"start": value} if isinstance(value, int | float) else value


class TrainConfig(Section):
    """How a head is trained."""

    epochs: int = Field(50, gt=0)
    batch_bags: int = Field(1, gt=0, description="bags per step, laid end to end")
    lr: float = Field(1e-4, gt=0, description="at the start; a cosine to min_lr follows, step by step")
    min_lr: float = Field(0.0, ge=0)
    warmup_epochs: float = Field(0.0, ge=0)
    weight_decay: float = Field(1e-5, ge=0)
    select: Literal["loss", "f1_auc", "last"] = Field(
        "loss",
        description="which epoch is kept: least validation loss, largest macro-F1 + AUROC, or the last",
    )


class Recipe(Section):
    """One file of configs/heads: a head, its options, the weights of its losses, and how it is trained."""

    name: Name = Field(description="a file of mil/heads")
    options: dict[str, Any] = {}
    losses: dict[str, Annotated[LossWeight, BeforeValidator(_weight)]] = Field(min_length=1)
    train: TrainConfig = TrainConfig()
    source: str = Field("", description="where the settings are from")


class DatasetConfig(Section):
    """One yaml of configs/datasets; the slide table of the same name lies beside it."""

    title: str = ""
    classes: list[str] = Field(min_length=1, description="labels, in the order of the head's outputs")
    positive: str | None = Field(
        None, description="the class that sensitivity and heatmaps speak of; default: the last"
    )
    columns: dict[str, str] = Field({}, description="our column name: the name in the csv")
    slides_dir: str = Field("", description="where the slides are; the run's slides_dir goes before it")
    slide_paths: list[str] = Field(["{slide}"], description="patterns tried in turn when the csv has no path")
    annotation_paths: list[str] = Field([], description="patterns tried in turn when the csv has no annotation")
    size: str = Field("", description="how big the slides are, for the message that they are missing")
    get: str = Field("", description="how to get the slides, for the message that they are missing")
    licence: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "DatasetConfig":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes holds a name twice")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive: {self.positive!r} is not among classes {self.classes}")
        return self

    @property
    def positive_class(self) -> str:
        """The class of interest: `positive`, or the last of `classes`."""
        return self.positive or self.classes[-1]


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], raw: Any, where: str) -> Model:
    """Check a mapping read from a file; name every fault at once, each with its dotted path.

    Raises:
        ConfigError: one line with all faults.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(_fault(fault, model) for fault in error.errors())
        raise ConfigError(f"{where}: {faults}") from None


def _fault(fault: Any, model: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        section = model
        for part in fault["loc"][:-1]:
            section = section.model_fields[part].annotation  # type: ignore[assignment]
        return unknown_name("key", path, section.model_fields)
    return f"{path}: {fault['msg'].removeprefix('Value error, ')}, not {fault['input']!r}"


def tiling_name(tile_px: int, mpp: float) -> str:
    """Folder name of a tiling, such as `224px_0.5mpp`."""
    return f"{tile_px}px_{mpp:g}mpp"


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Raises:
        ConfigError: it is missing or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def config_path(relative: str) -> Path:
    """Where a file of `configs/` is: under the working directory, else where this package came from."""
    here = Path("configs") / relative
    return here if here.exists() else Path(__file__).resolve().parents[1] / here


def load_config(raw: dict[str, Any]) -> Config:
    """Check a run's whole configuration.

    Raises:
        ConfigError: one line that names every bad key.
    """
    config = checked(Config, raw, "config")
    encoders = load_encoders()
    for name in config.encoder:
        if name not in encoders:
            raise ConfigError(f"config: encoder: {unknown_name('encoder', name, encoders)}")
    for name in config.head:
        load_recipe(name)
    return config


def load_encoders(path: Path | None = None) -> dict[str, EncoderConfig]:
    """All entries of an encoders file, by name."""
    path = path or config_path("encoders.yaml")
    raw = read_yaml(path)
    return {name: checked(EncoderConfig, entry, f"{path}: {name}") for name, entry in raw.items()}


def load_encoder(name: str, path: Path | None = None) -> EncoderConfig:
    """One entry of an encoders file."""
    encoders = load_encoders(path)
    if name not in encoders:
        raise ConfigError(unknown_name("encoder", name, encoders))
    return encoders[name]


def recipe_path(name: str) -> Path:
    """The file of a recipe, given its name or its path.

    Raises:
        ConfigError: there is none; the names that exist are listed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_path(f"heads/{name}.yaml")
    if not path.exists():
        known = {file.stem for file in config_path("heads").glob("*.yaml")}
        raise ConfigError(unknown_name("head recipe", name, known))
    return path


def load_recipe(name: str) -> Recipe:
    """One recipe of configs/heads, by name or by path."""
    path = recipe_path(name)
    return checked(Recipe, read_yaml(path), str(path))


def dataset_path(name: str) -> Path:
    """The yaml of a dataset, given its name or its path.

    Raises:
        ConfigError: there is none; the names that exist are listed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else config_path(f"datasets/{name}.yaml")
    if not path.exists():
        known = {file.stem for file in config_path("datasets").glob("*.yaml")}
        raise ConfigError(unknown_name("dataset", name, known))
    return path


def load_dataset(name: str) -> DatasetConfig:
    """The yaml of a dataset, by name or by path."""
    path = dataset_path(name)
    return checked(DatasetConfig, read_yaml(path), str(path))
