"""Names of joined encoders: features of several, or at several magnifications, side by side.

`uni@0.5+uni@1` is `uni` at 0.5 and at 1 µm per pixel. The first encoder has the finest
tiles, which are those of the joined bags.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from mil.config.encoder_names import by_alias, known_encoder
from mil.config.encoders import EncoderConfig, tiling_name
from mil.errors import ConfigError

BETWEEN = "+"
AT = "@"
# Resolution of tiles, alone or with their side: 0.5 or 448px_0.571mpp.
_NUMBER = r"[0-9][0-9.e-]*"
_TILES = rf"(?:(?P<tile_px>[1-9][0-9]{{0,4}})px_(?P<mpp>{_NUMBER})mpp|(?P<mpp_alone>{_NUMBER}))"
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:@[0-9][0-9a-z._-]*)?"
# Pattern of one encoder's name, or of several joined ones.
ENCODERS = rf"^{_PART}(?:\+{_PART})*$"
# More would be a slip: a tile has the features of all encoders.
MOST_ENCODERS = 8
COARSEST_MPP = 1000
# Characters of a name that a message quotes.
MOST_SHOWN = 100


class EncoderAt(NamedTuple):
    """An encoder with the tiles that it sees, as the name of joined encoders states them.

    Attributes:
        name: Name of the encoder.
        mpp: Resolution of a tile, micrometres per pixel; None where it is not stated.
        tile_px: Side of a tile, pixels; None where it is that of the first encoder's tiles,
            or not stated.
    """

    name: str
    mpp: float | None = None
    tile_px: int | None = None

    def __str__(self) -> str:
        if self.mpp is None:
            return self.name
        if self.tile_px is None:
            # Ten digits, as in the name of a tiling.
            return f"{self.name}{AT}{self.mpp:.10g}"
        return f"{self.name}{AT}{tiling_name(self.tile_px, self.mpp)}"


def is_joined(name: str) -> bool:
    """Whether a name is that of joined encoders."""
    return BETWEEN in name


def joined_name(encoders: Sequence[EncoderAt]) -> str:
    """Name of joined encoders, such as `uni@0.5+uni@1` or `uni@0.5+conch@448px_0.571mpp`.

    With the tiling of the first, the name states all tiles: the side of tiles stands in
    it where it differs from that of the first.

    Args:
        encoders: Encoders with their tiles, that of the finest tiles first.
    """
    side = encoders[0].tile_px
    parts = [
        encoder._replace(tile_px=None if encoder.tile_px == side else encoder.tile_px)
        for encoder in encoders
    ]
    return BETWEEN.join(map(str, parts))


def parse_encoders(name: str) -> list[EncoderAt]:
    """Encoders of a name; one, unless it is that of joined encoders.

    Raises:
        ConfigError: Tiles are stated in another way than as above, or there are too many
            encoders.
    """
    parts = name.split(BETWEEN)
    if len(parts) > MOST_ENCODERS:
        raise ConfigError(
            f"encoder {name[:MOST_SHOWN]}...: joins {len(parts)} encoders; join at most "
            f"{MOST_ENCODERS}"
        )
    return [_encoder_at(part, name) for part in parts]


def _encoder_at(part: str, name: str) -> EncoderAt:
    encoder, at, tiles = part.partition(AT)
    if not at:
        return EncoderAt(encoder)
    match = re.fullmatch(_TILES, tiles)
    mpp = _number(match["mpp"] or match["mpp_alone"]) if match else 0.0
    if match is None or not 0 < mpp < COARSEST_MPP:
        raise ConfigError(
            f"encoder {name}: {part} states no resolution; write it as {encoder or 'NAME'}@0.5, in "
            "micrometres per pixel"
        )
    return EncoderAt(encoder, mpp, int(match["tile_px"]) if match["tile_px"] else None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class TileSizes(Protocol):
    """What is asked of section `tile` of the configuration."""

    @property
    def size_px(self) -> int | None:
        """Side of a tile, pixels; None: that of the encoder."""

    @property
    def mpp(self) -> float | None:
        """Resolution of a tile, micrometres per pixel; None: that of the encoder."""


class TiledEncoder(NamedTuple):
    """An encoder with the tiles that it sees in a run.

    Attributes:
        name: Name of the encoder's entry.
        entry: The entry.
        tile_px: Side of a tile, pixels.
        mpp: Resolution of a tile, micrometres per pixel.
    """

    name: str
    entry: EncoderConfig
    tile_px: int
    mpp: float

    @property
    def tiling(self) -> str:
        """Name of the tiling, such as `224px_0.5mpp`."""
        return tiling_name(self.tile_px, self.mpp)


def tiled_encoders(
    name: str, tile: TileSizes, encoders: Mapping[str, EncoderConfig]
) -> list[TiledEncoder]:
    """Encoders that a name of a run's encoder stands for, with their tiles.

    Args:
        name: Name or alias of an encoder; or of joined ones, such as `uni@0.5+uni@1`.
        tile: Tiles of the run, which go before those of the entries. A resolution in the
            name goes before both.
        encoders: Entries by name.

    Returns:
        One encoder, or the joined ones, that of the smallest tiles first.

    Raises:
        ConfigError: No entry has that name, or a name of joined encoders cannot be used.
    """
    parts = parse_encoders(name)
    if not is_joined(name) and parts[0].mpp is not None:
        raise ConfigError(
            f"{name} states a resolution, which only joined encoders do, such as "
            f"{name}+{parts[0].name}@1; for one encoder set tile.mpp={parts[0].mpp:.10g}"
        )
    tiled = [_tiled(part, tile, encoders) for part in parts]
    if len({(one.name, one.tiling) for one in tiled}) < len(tiled):
        raise ConfigError(
            f"{name} joins an encoder with itself at one resolution; state another, as in "
            f"{tiled[0].name}@0.5+{tiled[0].name}@1"
        )
    return sorted(tiled, key=lambda one: one.tile_px * one.mpp)


def _tiled(part: EncoderAt, tile: TileSizes, encoders: Mapping[str, EncoderConfig]) -> TiledEncoder:
    name = known_encoder(part.name, encoders)
    entry = encoders[name]
    tile_px = part.tile_px or tile.size_px or entry.tile_px
    return TiledEncoder(name, entry, tile_px, part.mpp or tile.mpp or entry.mpp)


def name_of_tiled(tiled: Sequence[TiledEncoder]) -> str:
    """Name of one encoder; of joined ones, their names with their resolutions."""
    if len(tiled) == 1:
        return tiled[0].name
    return joined_name([EncoderAt(one.name, one.mpp, one.tile_px) for one in tiled])


class EncoderTerms(NamedTuple):
    """What encoders' licences ask of those who use them.

    Attributes:
        licence: Licence of the weights; of joined encoders all of them.
        gated: Whether the weights of one are given only to approved accounts.
        citation: Publications to cite; empty where none is known.
    """

    licence: str
    gated: bool
    citation: str


def encoder_terms(name: str, encoders: Mapping[str, EncoderConfig]) -> EncoderTerms | None:
    """Terms of an encoder, or of all joined ones; None where one has no entry.

    Args:
        name: Name or alias of an encoder, or of joined ones.
        encoders: Entries by name.
    """
    names = [by_alias(part.partition(AT)[0], encoders) for part in name.split(BETWEEN)]
    if None in names:
        return None
    entries = [encoders[entry] for entry in dict.fromkeys(names) if entry]
    return EncoderTerms(
        "; ".join(dict.fromkeys(entry.licence for entry in entries)),
        any(entry.gated for entry in entries),
        " ".join(dict.fromkeys(entry.citation for entry in entries if entry.citation)),
    )
