"""Encoders: the entries of configs/encoders.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from mil.config.base import NAME, Section, checked, config_path
from mil.config.encoder_names import known_encoder
from mil.config.timm_args import check_args
from mil.config.yaml_file import read_yaml
from mil.errors import ConfigError

# The encoder of the demo and of every default: its weights come with the installation,
# so that it works without a network.
DEFAULT_ENCODER = "efficientnet_lite0"
HUB_PREFIXES = ("hf-hub:", "hf_hub:")
# Names that a repository's own model has, in order of preference: safetensors can hold
# nothing but tensors.
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
# A part of a path begins with a letter, digit or underscore: it cannot be `..` and
# leave its folder.
_PART = r"\w[\w.-]*"
_PACKAGE_FILE = re.compile(rf"package:[A-Za-z_]\w*(?:\.\w+)*(?:/{_PART})+")
_HUB_FILE = re.compile(rf"hf[-_]hub:({_PART}/{_PART})(?:@({_PART}))?(?:/({_PART}(?:/{_PART})*))?")

# Settings that entries and bags were once without: at their defaults they are left out of
# what a bag records, so that no bag has to be computed again.
_LATER = ("projection", "scales")

Naming = Literal["name", "order", "transformers", "clip", "conch", "keep", "beit3", "swin"]

# YAML knows .inf and .nan, which would pass as floats.
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HubFile(NamedTuple):
    """A model's file on the Hugging Face hub: `hf-hub:OWNER/NAME@REVISION/FILE`.

    Revision and file may be left out.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    @property
    def pinned(self) -> str:
        """Repository and revision as people write them, `OWNER/NAME@REVISION`."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def hub_file(weights: str) -> HubFile | None:
    """File on the hub that a source of weights names; None: it names another source."""
    match = _HUB_FILE.fullmatch(weights)
    return HubFile(*match.groups()) if match else None


class EncoderConfig(Section):
    """One entry of configs/encoders.yaml: a timm model, its weights and its tiles."""

    timm: str = Field(
        description="Name of the model for timm.create_model; names that begin with hf-hub: too."
    )
    args: Annotated[dict[str, Any], AfterValidator(check_args)] = Field(
        {}, description="Further arguments of timm.create_model: those of the model's shape."
    )
    pooling: Literal["model", "cls", "mean", "cls+mean", "attention"] = Field(
        "model",
        description="Feature of a tile; model: as timm pools; cls: the class token; mean: the "
        "mean of the patch tokens; cls+mean: both, concatenated; attention: what a learned query "
        "attends to, as in CONCH.",
    )
    projection: Literal["none", "linear", "mlp"] = Field(
        "none",
        description="Projection of the pooled tokens to the feature, with the weights; linear: a "
        "matrix, as in CLIP; mlp: two layers and unit length, as in KEEP.",
    )
    scales: list[Annotated[int, Field(ge=1, le=4)]] = Field(
        [1],
        min_length=1,
        max_length=3,
        description="Magnifications at which the model sees a tile, concatenated; at 2, the tile "
        "is enlarged, cut into 2 x 2 and the features of the squares are averaged, as in MUSK.",
    )
    dim: int = Field(gt=0, description="Length of a tile's feature vector.")
    tile_px: int = Field(224, gt=0, description="Side of a tile, pixels.")
    mpp: Positive = Field(0.5, description="Resolution of a tile, micrometres per pixel.")
    weights: str = Field(
        "timm",
        description="Source of the weights: timm, hf-hub:OWNER/NAME@REVISION/FILE, "
        "package:PACKAGE/FILE, random, or a path.",
    )
    keys: Naming = Field(
        "name",
        description="Names of the tensors in the weights' file; name: those of timm; order: other "
        "names, but the same tensors in the same order; transformers: those of that library's "
        "ViTs; clip: those of its CLIP; conch, keep, beit3, swin: those of these projects.",
    )
    mean: tuple[Finite, Finite, Finite] | None = Field(
        None, description="Mean of each channel, 0 to 1; if unset, that of timm for this model."
    )
    std: tuple[Positive, Positive, Positive] | None = Field(
        None,
        description="Standard deviation of each channel; if unset, that of timm for this model.",
    )
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="Precision that the encoder's authors compute in on a GPU."
    )
    licence: str = Field(description="Licence of the weights.")
    gated: bool = Field(
        False, description="True where the hub gives the weights only to approved accounts."
    )
    citation: str = Field("", description="Publication to cite.")
    aliases: list[str] = Field(
        [],
        max_length=50,
        description="Names of the same weights, pooled in the same way, in other tools.",
    )

    @field_validator("weights")
    @classmethod
    def _well_formed(cls, weights: str) -> str:
        if weights.startswith(HUB_PREFIXES) and not hub_file(weights):
            raise ValueError(
                "a file on the hub is hf-hub:OWNER/NAME@REVISION/FILE "
                "(revision and file may be left out)"
            )
        if weights.startswith("package:") and not _PACKAGE_FILE.fullmatch(weights):
            raise ValueError("a file inside an installed package is package:PACKAGE/FILE")
        return weights

    @model_validator(mode="after")
    def _projects_tokens(self) -> Self:
        if self.projection != "none" and self.pooling in ("model", "attention"):
            raise ValueError(
                f"projection {self.projection} needs pooling cls, mean or cls+mean, not "
                f"{self.pooling}"
            )
        if self.weights == "timm" and (self.projection != "none" or self.pooling == "attention"):
            raise ValueError(
                "pooling attention and a projection come with the weights of a file, which "
                "timm's own weights lack"
            )
        return self

    @property
    def hub(self) -> HubFile | None:
        """File of the weights on the hub; None for weights of another source."""
        return hub_file(self.weights)

    @property
    def repository(self) -> str:
        """Repository on the hub whose model the weights are.

        Empty for weights of another source, and for a file beside another model, as
        CONCH v1.5 has one in TITAN's repository.
        """
        if self.hub is None or (self.hub.file and self.hub.file not in WEIGHTS_FILES):
            return ""
        return self.hub.repository

    def settings(self) -> str:
        """All settings that features depend on, as JSON.

        Without licence, gating, citation and aliases: correcting them must not recompute
        bags.
        """
        fields = type(self).model_fields
        unused = {name for name in _LATER if getattr(self, name) == fields[name].default}
        return self.model_dump_json(exclude={"licence", "gated", "citation", "aliases"} | unused)


def tiling_name(tile_px: int | None, mpp: float | None) -> str:
    """Folder name of a tiling, such as `224px_0.5mpp`.

    Args:
        tile_px: Side of a tile, pixels; None (`unknown`) for imported bags that do not state it.
        mpp: Resolution of a tile, micrometres per pixel; None like `tile_px`.
    """
    # Ten digits: rounding errors of a float must not make another folder.
    return f"{tile_px or 'unknown'}px_{'unknown' if mpp is None else f'{mpp:.10g}'}mpp"


def load_encoders(path: Path | None = None) -> dict[str, EncoderConfig]:
    """Read and check all entries of an encoders file, by name.

    Args:
        path: The file; None: configs/encoders.yaml.

    Raises:
        ConfigError: The file holds no entries, an entry is wrong, or its name cannot be the
            name of a folder.
    """
    path = path or config_path("encoders.yaml")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path}: no encoders; it needs entries such as "
            "`resnet18: {timm: ..., dim: 512, ...}`"
        )
    for name in raw:
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise ConfigError(
                f"{path}: {name!r} cannot name an encoder: use letters, digits, '.', '_' and '-' "
                "(a number in quotes)"
            )
    return {name: checked(EncoderConfig, entry, f"{path}: {name}") for name, entry in raw.items()}


def load_encoder(name: str, path: Path | None = None) -> EncoderConfig:
    """Read and check one entry of an encoders file.

    Args:
        name: Name of the entry, or one of its aliases.
        path: The file; None: configs/encoders.yaml.

    Raises:
        ConfigError: The file is wrong, or it has no entry of that name.
    """
    encoders = load_encoders(path)
    return encoders[known_encoder(name, encoders)]


def encoder_name(name: str, path: Path | None = None) -> str:
    """Name of an encoder's entry, which bags state and folders carry.

    Args:
        name: Name of the entry, or one of its aliases.
        path: The file; None: configs/encoders.yaml.

    Raises:
        ConfigError: The file is wrong, or it has no entry of that name.
    """
    return known_encoder(name, load_encoders(path))
