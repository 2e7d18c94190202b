"""Public sets of bags: the entries of configs/bag_sets.yaml."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mil.config.base import Section, checked, config_path, name_fault
from mil.config.encoders import Positive
from mil.config.yaml_file import read_yaml
from mil.errors import ConfigError, unknown_name

# A part of a path begins with a letter, digit or underscore: it cannot be `..`.
_PART = r"[\w*{][\w.*{}-]*"
_PATTERN = re.compile(rf"{_PART}(?:/{_PART})*")


class BagSetConfig(Section):
    """One entry of configs/bag_sets.yaml: features that somebody published on the hub."""

    title: str = Field(description="Title of the dataset that the bags become.")
    repository: str = Field(
        pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$", description="Dataset on the hub, OWNER/NAME."
    )
    revision: str = Field(
        "",
        pattern=r"^([0-9a-f]{40})?$",
        description="Commit that is fetched; if unset, the newest one at the first fetch, which "
        "is then recorded beside the bags.",
    )
    layout: Literal["clam", "torchmil", "parquet"] = Field(
        description="Layout of the files; clam: a file for each slide; torchmil: archives of a "
        "file for each slide; parquet: tables with a row for each slide."
    )
    features: str = Field(
        description="Path of the features in the repository; {slide} stands for the slide's id, "
        "{split} for train, val or test, **/ for any folders, * for any characters of a name."
    )
    coords: str = Field(
        "", description="Path of the tiles' corners in the repository, like that of `features`."
    )
    first_feature: int = Field(
        0, ge=0, le=100, description="Number of columns before the features in each tile's row."
    )
    encoder: str = Field(description="Encoder of the features, as in configs/encoders.yaml.")
    dim: int = Field(gt=0, description="Length of a tile's feature vector.")
    tile_px: int | None = Field(
        None, gt=0, description="Side of a tile as the encoder saw it, pixels."
    )
    side_level0_px: Positive | None = Field(
        None, description="Side of a tile on the slide, level-0 pixels, where all slides agree."
    )
    tile_um: Positive | None = Field(
        None, description="Side of a tile, micrometres, where all slides agree."
    )
    dataset: str = Field(
        "",
        description="Dataset of configs/datasets whose table holds labels, patients and splits; "
        "empty: they are in the files.",
    )
    classes: list[str] = Field(
        [], description="Names of the labels 0, 1, … where the files hold labels."
    )
    size_gb: Positive | None = Field(None, description="Size of the download, GB, if known.")
    gated: bool = Field(
        False, description="True where the hub gives the files only to accounts that agreed."
    )
    licence: str = Field(description="Licence of the features.")
    citation: str = Field(description="Publication to cite.")
    unverified: str = Field(
        "", description="Facts of this entry that were not checked against the hub itself."
    )

    @field_validator("features", "coords")
    @classmethod
    def _stays_inside(cls, pattern: str) -> str:
        if pattern and not _PATTERN.fullmatch(pattern):
            raise ValueError("not a path below the repository, such as embeddings/{slide}.pt")
        return pattern

    @model_validator(mode="after")
    def _has_labels(self) -> "BagSetConfig":
        if (self.layout == "parquet") == bool(self.dataset):
            raise ValueError("labels are in the files (layout parquet), or `dataset` names them")
        if self.layout == "parquet" and len(self.classes) < 2:
            raise ValueError("classes: name the labels 0, 1, … of the files")
        return self

    @property
    def target_mpp(self) -> float | None:
        """Resolution that the encoder saw, micrometres per pixel; None: not known."""
        return self.tile_um / self.tile_px if self.tile_um and self.tile_px else None


def load_bag_sets(path: Path | None = None) -> dict[str, BagSetConfig]:
    """Read and check all entries of a file of bag sets, by name.

    Args:
        path: The file; None: configs/bag_sets.yaml.

    Raises:
        ConfigError: The file holds no entries, or one is wrong.
    """
    path = path or config_path("bag_sets.yaml")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no bag sets; copy an entry of the file that came with mil")
    for name in raw:
        if fault := name_fault(str(name)):
            raise ConfigError(f"{path}: bag set {name!r}: {fault}")
    return {name: checked(BagSetConfig, entry, f"{path}: {name}") for name, entry in raw.items()}


def load_bag_set(name: str) -> BagSetConfig:
    """Read and check one entry of configs/bag_sets.yaml.

    Args:
        name: Name of the entry.

    Raises:
        ConfigError: The file is wrong, or it has no entry of that name.
    """
    entries = load_bag_sets()
    if name not in entries:
        raise ConfigError(unknown_name("bag set", name, entries))
    return entries[name]
