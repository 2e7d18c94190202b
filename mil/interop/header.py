"""Our header inside other tools' files: one attribute that they ignore, so that a bag comes back with all it knew.

It comes from strangers as much as the rest of the file: it is checked, and where the
file itself says something else, the file is believed.
"""

from typing import Annotated, Any

import h5py
from pydantic import ConfigDict, Field, ValidationError

from mil.config import Section
from mil.errors import FormatError
from mil.interop.untrusted import attribute
from mil.io.bags import BagHeader

ATTRIBUTE = "mil_header"
LONGEST = 100_000

Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Length = Annotated[float, Field(gt=0, lt=1e9, allow_inf_nan=False)]
Pixels = Annotated[int, Field(gt=0, lt=2**31)]
Place = Annotated[int, Field(ge=0, lt=2**31)]


class Passport(Section):
    """The part of a bag's header that does not depend on the container, and the slide's label where it belongs."""

    model_config = ConfigDict(strict=True)

    encoder: Line
    encoder_revision: Line = ""
    weights_sha256: Line = ""
    transform: Line = ""
    precision: Line = ""
    tile_px: Pixels | None = None
    target_mpp: Length | None = None
    side_level0_px: Length | None = None
    mpp_level0: Length | None = None
    width_level0_px: Pixels | None = None
    height_level0_px: Pixels | None = None
    origin_x_level0_px: Place = 0
    origin_y_level0_px: Place = 0
    label: Line = ""
    label_number: int | None = None

    def header(self) -> dict[str, Any]:
        """Fields of a bag's header, without those that are not known."""
        return {name: value for name, value in self if name in HEADER and value not in (None, "")}


HEADER = tuple(name for name in Passport.model_fields if name not in ("label", "label_number"))


def stamp_passport(
    attrs: h5py.AttributeManager, bag: BagHeader, label: str = "", label_number: int | None = None
) -> None:
    """Write a bag's header into the attributes of another tool's file."""
    known: dict[str, Any] = {name: getattr(bag, name) for name in HEADER}
    attrs[ATTRIBUTE] = Passport(**known, label=label, label_number=label_number).model_dump_json(
        exclude_none=True
    )


def read_passport(attrs: h5py.AttributeManager, where: str) -> Passport | None:
    """Our header in another tool's file; None: there is none.

    Raises:
        FormatError: there is one that cannot be ours.
    """
    raw = attribute(attrs, ATTRIBUTE, where)
    if raw is None:
        return None
    try:
        if not isinstance(raw, str) or len(raw) > LONGEST:
            raise FormatError(
                f"{where}: {ATTRIBUTE} is not ours; remove that attribute to go on without it"
            )
        return Passport.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise FormatError(
            f"{where}: {ATTRIBUTE} is not ours ({what}); remove that attribute to go on without it"
        ) from None
