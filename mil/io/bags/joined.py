"""What a joined bag states of the bags that it was made of."""

from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from mil.config import Section
from mil.config.base import LONGEST_NAME
from mil.config.joined import ENCODERS, is_joined
from mil.io.bags.content import BagHeader

# A name has a character for each part and one between two.
MOST_PARTS = LONGEST_NAME // 2

EncoderOfPart = Annotated[str, Field(pattern=ENCODERS, max_length=LONGEST_NAME)]
PixelCount = Annotated[int, Field(gt=0, lt=2**31)]
PositiveLength = Annotated[float, Field(gt=0, lt=1e9)]
TileCount = Annotated[int, Field(ge=0, lt=2**31)]


class JoinedPart(Section):
    """Facts of a bag that was joined to others; empty or None: not known.

    Attributes:
        dim: Number of its features per tile.
        without: Number of valid tiles of the joined bag that lie in none of its tiles.
    """

    # Strict: `true` is no side of a tile. Keys of later versions do no harm.
    model_config = ConfigDict(strict=True, extra="ignore")

    encoder: EncoderOfPart
    encoder_revision: str = ""
    weights_sha256: str = ""
    transform: str = ""
    precision: str = ""
    tile_px: PixelCount | None = None
    target_mpp: PositiveLength | None = None
    side_level0_px: PositiveLength | None = None
    tile_digest: str = ""
    encoder_settings: str = ""
    stain: str = ""
    dim: TileCount | None = None
    without: TileCount = 0


# Facts that are fields of the bag's own header.
PART_FACTS = tuple(name for name in JoinedPart.model_fields if name not in ("dim", "without"))


class JoinedSettings(Section):
    """`BagHeader.encoder_settings` of a joined bag."""

    model_config = ConfigDict(strict=True, extra="ignore")

    joined: Annotated[list[JoinedPart], Field(max_length=MOST_PARTS)]


def joined_parts(header: BagHeader) -> list[JoinedPart]:
    """Facts of each bag that a joined bag was made of.

    Args:
        header: Header of a bag, which may come from anywhere; of a bag that is not joined,
            or that states them in another way, there are none.
    """
    if not is_joined(header.encoder):
        return []
    try:
        return JoinedSettings.model_validate_json(header.encoder_settings).joined
    except ValidationError:
        return []
