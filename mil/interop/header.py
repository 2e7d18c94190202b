"""Header fields of a bag, and how they travel inside the files of other tools.

Every HDF5 file of an export carries one more attribute, `mil_header`, which other tools
ignore. A bag that is imported from such a file has all the fields it had before. The
attribute is as untrusted as the rest of the file: it is validated, and where the file
itself says something else, the file is believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import h5py
from pydantic import ConfigDict, Field, ValidationError

from mil.config import Section
from mil.errors import FormatError
from mil.interop.untrusted import read_attribute
from mil.io.bags import BagHeader

ATTRIBUTE = "mil_header"
# A header has some hundred characters; a longer text is refused before it is parsed.
MAX_HEADER_CHARACTERS = 100_000

# No control characters: these texts end in messages, tables and reports.
HeaderText = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
PositiveLength = Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False)]
# Coordinates are int32 in a bag, so no size or offset may be larger.
PixelCount = Annotated[int, Field(gt=0, lt=2**31)]
PixelOffset = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True, kw_only=True)
class HeaderFields:
    """Fields of a bag's header that do not depend on the file format.

    None or an empty text means not known. Lengths are level-0 pixels unless the name
    says otherwise.
    """

    encoder: str = ""
    encoder_revision: str = ""
    weights_sha256: str = ""
    transform: str = ""
    precision: str = ""
    stain_norm: str = ""
    stain: str = ""
    tile_px: int | None = None  # side of a tile as the encoder saw it, pixels
    target_mpp: float | None = None  # requested pixel size of a tile, µm
    side_level0_px: float | None = None
    mpp_level0: float | None = None
    width_level0_px: int | None = None
    height_level0_px: int | None = None
    # Top left corner of the scanned part of the slide.
    origin_x_level0_px: int = 0
    origin_y_level0_px: int = 0

    def known(self) -> Mapping[str, Any]:
        """The fields that are known, by name."""
        return {name: getattr(self, name) for name in FIELD_NAMES if getattr(self, name)}

    def filled_from(self, other: "HeaderFields") -> "HeaderFields":
        """The same fields, where those not known here are taken from another header."""
        merged = {name: getattr(self, name) or getattr(other, name) for name in FIELD_NAMES}
        return HeaderFields(**merged)


FIELD_NAMES = tuple(field.name for field in fields(HeaderFields))


class EmbeddedHeader(Section):
    """Content of the attribute `mil_header`; the slide's label only where the format has labels."""

    # Strict: JSON has numbers and texts, so "224" in a number's place was not written by us.
    model_config = ConfigDict(strict=True)

    encoder: HeaderText
    encoder_revision: HeaderText = ""
    weights_sha256: HeaderText = ""
    transform: HeaderText = ""
    precision: HeaderText = ""
    stain_norm: HeaderText = ""
    stain: HeaderText = ""
    tile_px: PixelCount | None = None
    target_mpp: PositiveLength | None = None
    side_level0_px: PositiveLength | None = None
    mpp_level0: PositiveLength | None = None
    width_level0_px: PixelCount | None = None
    height_level0_px: PixelCount | None = None
    origin_x_level0_px: PixelOffset = 0
    origin_y_level0_px: PixelOffset = 0
    label: HeaderText = ""
    label_number: int | None = None

    def header_fields(self) -> HeaderFields:
        """The fields of a bag's header."""
        return HeaderFields(**{name: getattr(self, name) for name in FIELD_NAMES})


def embed_header(
    attrs: h5py.AttributeManager, bag: BagHeader, label: str = "", label_number: int | None = None
) -> None:
    """Write a bag's header into the attributes of another tool's file.

    Args:
        attrs: attributes of the file, or of the slide's group.
        bag: the bag whose header is embedded.
        label: the slide's label, in formats that hold labels.
        label_number: the number that stands for the label in the file.
    """
    known = {name: getattr(bag, name) for name in FIELD_NAMES}
    header = EmbeddedHeader(**known, label=label, label_number=label_number)
    attrs[ATTRIBUTE] = header.model_dump_json(exclude_none=True)


def read_embedded_header(attrs: h5py.AttributeManager, location: str) -> EmbeddedHeader | None:
    """Header that an export embedded in another tool's file; None if there is none.

    Args:
        attrs: attributes of the file, or of the slide's group.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: the attribute is there, but was not written by an export.
    """
    text = read_attribute(attrs, ATTRIBUTE, location)
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > MAX_HEADER_CHARACTERS:
        raise _not_embedded_by_us(location, "it is no text, or far too long")
    try:
        return EmbeddedHeader.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise _not_embedded_by_us(location, f"{field}: {fault['msg']}") from None


def _not_embedded_by_us(location: str, reason: str) -> FormatError:
    return FormatError(
        f"{location}: the attribute {ATTRIBUTE} was not written by mil ({reason}); remove it to "
        "import the file without it"
    )
