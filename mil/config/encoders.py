"""Encoders: the entries of configs/encoders.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator

from mil.config.base import NAME, Section, checked, config_path, read_yaml
from mil.errors import ConfigError, unknown_name

HUB = ("hf-hub:", "hf_hub:")
_PART = r"\w[\w.-]*"
_PACKAGE_FILE = re.compile(r"package:[A-Za-z_]\w*(?:\.\w+)*/.+")
_HUB_FILE = re.compile(rf"hf[-_]hub:({_PART}/{_PART})(?:@({_PART}))?(?:/({_PART}(?:/{_PART})*))?")


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HubFile(NamedTuple):
    """A file of a model on the hub: `hf-hub:OWNER/NAME@REVISION/FILE`, where revision and file may be left out."""

    repository: str
    revision: str | None = None
    file: str | None = None

    @property
    def pinned(self) -> str:
        """The repository and its revision, as people write it."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


class EncoderConfig(Section):
    """One entry of configs/encoders.yaml: a timm model, its weights, and the tiles it wants."""

    timm: str = Field(description="model name for timm.create_model, hf-hub: names included")
    args: dict[str, Any] = Field({}, description="further arguments of timm.create_model")
    pooling: Literal["model", "cls", "mean", "cls+mean"] = Field(
        "model",
        description="model: as timm does; else of the class token, the mean of the patch tokens, or both",
    )
    dim: int = Field(gt=0, description="length of a tile's feature vector")
    tile_px: int = Field(224, gt=0, description="side of a tile, pixels")
    mpp: Positive = Field(0.5, description="micrometres per pixel that the encoder sees")
    weights: str = Field(
        "timm",
        description="timm; hf-hub:OWNER/NAME@REVISION/FILE; package:PACKAGE/FILE; random; path",
    )
    keys: Literal["name", "order", "transformers"] = Field(
        "name",
        description="order: same tensors in the same order, other names; transformers: names of its ViTs",
    )
    mean: tuple[Finite, Finite, Finite] | None = Field(
        None, description="of the channels; empty: timm's for this model"
    )
    std: tuple[Positive, Positive, Positive] | None = Field(
        None, description="of the channels; empty: timm's for this model"
    )
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="what its authors compute in on a GPU"
    )
    licence: str = Field(description="of the weights")
    gated: bool = Field(
        False, description="whether the hub gives the weights only to those who asked"
    )
    citation: str = Field("", description="what to cite")

    @field_validator("weights")
    @classmethod
    def _sound(cls, weights: str) -> str:
        if weights.startswith(HUB) and not _HUB_FILE.fullmatch(weights):
            raise ValueError(
                "a file on the hub is hf-hub:OWNER/NAME@REVISION/FILE (revision and file may be "
                "left out)"
            )
        if weights.startswith("package:") and not _PACKAGE_FILE.fullmatch(weights):
            raise ValueError("a file inside an installed package is package:PACKAGE/FILE")
        return weights

    @property
    def hub(self) -> HubFile | None:
        """Where on the hub the weights are, if the entry says so."""
        found = _HUB_FILE.fullmatch(self.weights)
        return HubFile(*found.groups()) if found else None

    def settings(self) -> str:
        """All that features depend on, as JSON: licence and citation may be mended without making bags anew."""
        return self.model_dump_json(exclude={"licence", "gated", "citation"})


def tiling_name(tile_px: int | None, mpp: float | None) -> str:
    """Folder name of a tiling, such as `224px_0.5mpp`; what an imported bag does not say is `unknown`."""
    return f"{tile_px or 'unknown'}px_{'unknown' if mpp is None else f'{mpp:.10g}'}mpp"


def load_encoders(path: Path | None = None) -> dict[str, EncoderConfig]:
    """All entries of an encoders file, by name.

    Raises:
        ConfigError: the file is not one, an entry is wrong, or its name cannot be that
            of a folder.
    """
    path = path or config_path("encoders.yaml")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path}: no encoders; it needs entries such as `resnet18: "
            "{timm: ..., dim: 512, ...}`"
        )
    for name in raw:
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise ConfigError(
                f"{path}: {name!r} cannot name an encoder: use letters, digits, '.', '_' and '-' "
                "(a number in quotes)"
            )
    return {name: checked(EncoderConfig, entry, f"{path}: {name}") for name, entry in raw.items()}


def load_encoder(name: str, path: Path | None = None) -> EncoderConfig:
    """One entry of an encoders file."""
    encoders = load_encoders(path)
    if name not in encoders:
        raise ConfigError(unknown_name("encoder", name, encoders))
    return encoders[name]
