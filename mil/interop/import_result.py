"""Result of an import of features: its bags, and the facts that they lack."""

from dataclasses import dataclass, field
from typing import NamedTuple

from mil.errors import FormatError
from mil.interop.pixel_size import NOMINAL_TOLERANCE
from mil.io.bags import Bag, BagHeader
from mil.io.bags.checks import ONE_ENCODER, check_width, difference

# Facts that a bag can do without, at a price that the user is told.
OPTIONAL_FACTS = ("coords", "side_level0_px", "mpp_level0")


class DifferentPixelSize(NamedTuple):
    """Pixel size of a slide whose nominal magnification stands for another, µm."""

    mpp: float
    nominal_mpp: float


@dataclass
class BagImportResult:
    """Bags that an import wrote, facts that they lack, and files that could not be used.

    Attributes:
        tool: tool that wrote the features.
        encoder: encoder of the bags.
        headers: headers of the bags that have tiles.
        tiles: number of tiles of all bags.
        dim: number of features per tile.
        unknown: slides that lack a fact, by the fact's name.
        off_nominal: slides whose pixel size is not that of their magnification.
        labels: label of each imported slide, where its file has one.
        renamed: encoders whose name is another one here, with that name.
        faults: why files could not be used.
        notes: further messages for the user.
    """

    tool: str
    encoder: str = ""
    headers: list[BagHeader] = field(default_factory=list)
    tiles: int = 0
    dim: int = 0
    unknown: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in OPTIONAL_FACTS}
    )
    off_nominal: dict[str, DifferentPixelSize] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    faults: list[FormatError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check_alike(self, bag: Bag) -> None:
        """Check that a bag has the encoder and the dimension of the bags before it.

        Raises:
            FormatError: it does not; a folder holds the bags of one encoder.
        """
        # A slide without tiles may have lost both.
        if bag.state != "ok":
            return
        dim = bag.features.shape[1]
        self.encoder = self.encoder or bag.encoder
        self.dim = self.dim or dim
        check_width(f"slide {bag.slide}", dim, self.dim, "the others")
        if bag.encoder != self.encoder:
            message = difference(
                f"slide {bag.slide}", "encoder", bag.encoder, self.encoder, "the others"
            )
            raise FormatError(f"{message}; {ONE_ENCODER}")

    def add(self, bag: Bag, nominal_mpp: float | None) -> None:
        """Add a bag that was written.

        Args:
            bag: the bag.
            nominal_mpp: pixel size that its nominal magnification stands for, µm; None:
                not known.
        """
        self.tiles += len(bag.features)
        if bag.state == "ok":
            self._add_header(bag)
        else:
            self.notes.append(f"slide {bag.slide} has no tiles")
        if bag.mpp_level0 and nominal_mpp:
            deviation = abs(bag.mpp_level0 / nominal_mpp - 1)
            if deviation > NOMINAL_TOLERANCE:
                self.off_nominal[bag.slide] = DifferentPixelSize(bag.mpp_level0, nominal_mpp)

    def _add_header(self, bag: Bag) -> None:
        # The header alone: the features of all bags would not fit into memory.
        header = {name: getattr(bag, name) for name in BagHeader.__dataclass_fields__}
        self.headers.append(BagHeader(**header))
        for name, slides in self.unknown.items():
            if getattr(bag, name) is None:
                slides.append(bag.slide)
