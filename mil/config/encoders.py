"""Encoders: the entries of configs/encoders.yaml."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mil.config.base import Section, checked, config_path, read_yaml
from mil.errors import ConfigError, unknown_name


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


def tiling_name(tile_px: int | None, mpp: float | None) -> str:
    """Folder name of a tiling, such as `224px_0.5mpp`; what an imported bag does not say is `unknown`."""
    return f"{tile_px or 'unknown'}px_{'unknown' if mpp is None else f'{mpp:.10g}'}mpp"


def load_encoders(path: Path | None = None) -> dict[str, EncoderConfig]:
    """All entries of an encoders file, by name."""
    path = path or config_path("encoders.yaml")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no encoders; it needs entries such as `resnet18: {{timm: ..., dim: 512, ...}}`")
    return {name: checked(EncoderConfig, entry, f"{path}: {name}") for name, entry in raw.items()}


def load_encoder(name: str, path: Path | None = None) -> EncoderConfig:
    """One entry of an encoders file."""
    encoders = load_encoders(path)
    if name not in encoders:
        raise ConfigError(unknown_name("encoder", name, encoders))
    return encoders[name]
