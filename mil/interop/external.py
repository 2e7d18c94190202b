"""Features of one slide as another tool's file holds them, before a bag is made of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mil.interop.header import EmbeddedHeader, HeaderFields


@dataclass(frozen=True)
class FeatureFile:
    """File, or group of a file, that holds the features of one slide.

    Attributes:
        tool: tool that wrote it: clam, trident, stamp or acmil; mil for a bag.
        slide: id of the slide.
        path: path of the file.
        group: name of the slide's group, in a file of several slides.
        patches: CLAM's file of tile coordinates for the same slide, if there is one.
    """

    tool: str
    slide: str
    path: Path
    group: str = ""
    patches: Path | None = None

    @property
    def location(self) -> str:
        """The file, and the group in it, for messages."""
        return f"{self.path}: {self.group}" if self.group else str(self.path)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExternalFeatures:
    """Features of one slide by another tool, in the order of its file.

    Attributes:
        features: one row a tile.
        coords: top left corners, level-0 pixels; None if not known or in another unit.
        coords_um: top left corners in micrometres (STAMP).
        side_um: side of a tile in micrometres (STAMP).
        stated: header fields that the file states itself.
        fallback: header fields that count only where no header of ours is embedded.
        nominal_mpp: pixel size of level 0 that the file's magnification stands for, µm.
        label: label of the slide, where the format holds labels (ACMIL).
        embedded: header of the bag that the file was exported from, if it was.
    """

    # As stored in the file; `convert` gives them the type of the bag.
    features: Float[np.ndarray, "tiles dim"]
    coords: Int[np.ndarray, "tiles 2"] | None = None
    coords_um: Float[np.ndarray, "tiles 2"] | None = None
    side_um: float | None = None
    stated: HeaderFields = field(default_factory=HeaderFields)
    fallback: HeaderFields = field(default_factory=HeaderFields)
    # Never used as a pixel size, only compared with one.
    nominal_mpp: float | None = None
    label: str = ""
    embedded: EmbeddedHeader | None = None
