"""Slide encoders: what makes one vector of a slide's tiles.

Statistics of the tiles, recipes of the run, and published models, one file each in
configs/slide_encoders.
"""

import re

from pydantic import Field, field_validator

from mil.config.base import NAME, Section, checked, named_file, named_files
from mil.config.encoders import (
    HUB_PREFIXES,
    HubFile,
    Positive,
    hub_file,
    load_encoders,
)
from mil.config.yaml_file import read_yaml
from mil.errors import ConfigError, unknown_name

# Slide encoders without weights: statistics of the tiles' features.
STATISTICS = ("mean", "mean_std")
# Names that published ones go by elsewhere.
OTHER_NAMES = {"gigapath": "gigapath_slide", "longnet": "gigapath_slide"}
# Weights that their authors give to those who ask, and no download has.
ASKED_FOR = "on request"
# Share by which the side of a tile may differ from that of the training: pixel sizes of
# scanners are rounded.
SIDE_TOLERANCE = 0.01


class SlideEncoderConfig(Section):
    """A published slide encoder, configs/slide_encoders/NAME.yaml.

    Its architecture is `mil/slide_encoders/NAME.py`.
    """

    encoder: str = Field(description="Encoder of the tiles that it was trained on.")
    tile_um: Positive = Field(
        description="Side of the tiles that it was trained on, micrometres; others are refused."
    )
    cropped: dict[int, int] = Field(
        {},
        description="Sides of tiles that other tools cut larger, pixels, and of the middle that "
        "the encoder sees; bags of such tiles are taken where the middle has the right side.",
    )
    dim: int = Field(gt=0, description="Length of a slide's vector.")
    parameters: int = Field(gt=0, description="Number of parameters that take part in the vector.")
    positions: bool = Field(
        False, description="Whether positions of the tiles are needed, which some bags lack."
    )
    weights: str = Field(
        description="Source of the weights: hf-hub:OWNER/NAME@REVISION/FILE, a path, random, or "
        "`on request`, for a file that its authors give by hand."
    )
    page: str = Field("", description="Address at which the weights are asked for.")
    licence: str = Field(description="Licence of the weights.")
    gated: bool = Field(
        False, description="True where the weights are given only to approved accounts."
    )
    citation: str = Field("", description="Publication to cite.")

    @field_validator("weights")
    @classmethod
    def _well_formed(cls, weights: str) -> str:
        if weights.startswith(HUB_PREFIXES):
            file = hub_file(weights)
            if file is None or file.file is None:
                raise ValueError("a file on the hub is hf-hub:OWNER/NAME@REVISION/FILE")
        if weights.startswith("package:"):
            raise ValueError("weights of a slide encoder come with no package; give a path")
        return weights

    @property
    def hub(self) -> HubFile | None:
        """File of the weights on the hub; None for weights of another source."""
        return hub_file(self.weights)

    def mpp(self, tile_px: int) -> float:
        """Resolution at which tiles of some pixels have the right side, µm per pixel."""
        return round(self.tile_um / tile_px, 10)

    def takes_side(self, side_um: float) -> bool:
        """Whether tiles of a side (micrometres) are like those of the training."""
        return abs(side_um - self.tile_um) <= SIDE_TOLERANCE * self.tile_um


def published_slide_encoders() -> tuple[str, ...]:
    """Names of the published slide encoders that there are, sorted."""
    names = {file.stem for file in named_files("slide_encoders")}
    return tuple(sorted(name for name in names if re.fullmatch(NAME, name)))


def published_entry(name: str) -> str:
    """File of the entry of a published slide encoder; empty for others.

    Args:
        name: Name of the slide encoder.
    """
    if name not in published_slide_encoders():
        return ""
    return str(named_file("slide_encoders", name, "slide encoder"))


def load_slide_encoder(name: str) -> SlideEncoderConfig:
    """Read and check the entry of a published slide encoder.

    Args:
        name: Name of a file in configs/slide_encoders, without `.yaml`.

    Raises:
        ConfigError: There is none of that name, or its file is wrong.
    """
    if name not in published_slide_encoders():
        raise ConfigError(unknown_name("slide encoder", name, published_slide_encoders()))
    path = named_file("slide_encoders", name, "slide encoder")
    return checked(SlideEncoderConfig, read_yaml(path), str(path))


def needs_heads(name: str) -> bool:
    """Whether a slide encoder is a recipe, whose heads are trained first."""
    return name not in STATISTICS and name not in published_slide_encoders()


def stands_on(name: str, encoder: str) -> bool:
    """Whether a slide encoder takes the features of an encoder of tiles.

    Args:
        name: Name of the slide encoder.
        encoder: Name of the encoder of the tiles.
    """
    return name not in published_slide_encoders() or load_slide_encoder(name).encoder == encoder


def check_slide_encoder(name: str) -> None:
    """Refuse a published slide encoder under a name that it does not have here.

    Raises:
        ConfigError: It has another name, in one line.
    """
    published = published_slide_encoders()
    usual = OTHER_NAMES.get(name.lower(), name.lower())
    if name not in published and usual in published:
        raise ConfigError(f"slide_encoder {name}: is called {usual} here")


def unfit_tiles(
    name: str, entry: SlideEncoderConfig, tile_px: int | None, mpp: float | None
) -> str:
    """Why a slide encoder does not take bags of some tiles, and what to do; empty: it does.

    Args:
        name: Name of the slide encoder.
        entry: Its entry.
        tile_px: Side of a tile, pixels; None or 0: not known.
        mpp: Resolution of a tile, micrometres per pixel; None or 0: not known.
    """
    if not tile_px or not mpp:
        return (
            f"it does not state the size of its tiles, and slide encoder {name} takes those of "
            f"{entry.tile_um:g} µm; import it with its scale, or {tiles_advice(entry)}"
        )
    side_um = entry.cropped.get(tile_px, tile_px) * mpp
    if entry.takes_side(side_um):
        return ""
    return (
        f"its tiles are {side_um:g} µm wide, slide encoder {name} takes those of "
        f"{entry.tile_um:g} µm; {tiles_advice(entry)}"
    )


def tiles_advice(entry: SlideEncoderConfig) -> str:
    """Settings of a run whose bags a slide encoder takes.

    Args:
        entry: Entry of the slide encoder.
    """
    encoder = load_encoders().get(entry.encoder)
    tile_px = encoder.tile_px if encoder else 224
    return (
        f"run with encoder={entry.encoder} and 'tile={{size_px: {tile_px}, "
        f"mpp: {entry.mpp(tile_px):.10g}}}'"
    )
