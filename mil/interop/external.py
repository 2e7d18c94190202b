"""What another tool's file says of one slide, before anything is made of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mil.interop.header import Passport


@dataclass(frozen=True)
class Source:
    """Where the features of one slide lie.

    Attributes:
        tool: clam, trident, stamp, acmil; or mil, for a bag of ours.
        slide: its id.
        path: the file.
        member: the slide's group, in a file of many slides.
        patches: CLAM's file of coordinates beside it, if there is one.
    """

    tool: str
    slide: str
    path: Path
    member: str = ""
    patches: Path | None = None

    @property
    def where(self) -> str:
        """The file, and the group in it, for messages."""
        return f"{self.path}: {self.member}" if self.member else str(self.path)


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreign:
    """One slide's features by another tool, in the order of its file.

    Attributes:
        features: one row a tile.
        coords: corners, level-0 pixels; None: not said, or not in pixels.
        coords_um: corners in micrometres (STAMP).
        side_um: side of a tile in micrometres (STAMP).
        said: fields of a bag's header that the file states itself.
        implied: fields that only stand where the file carries no header of ours.
        nominal_mpp: pixel size that the magnification in the file would mean.
        label: the slide's label, where the file has it (ACMIL).
        passport: our header, in a file that we wrote.
    """

    features: Float[np.ndarray, "tiles dim"]
    coords: Int[np.ndarray, "tiles 2"] | None = None
    coords_um: Float[np.ndarray, "tiles 2"] | None = None
    side_um: float | None = None
    said: dict[str, Any] = field(default_factory=dict)
    implied: dict[str, Any] = field(default_factory=dict)
    nominal_mpp: float | None = None
    label: str = ""
    passport: Passport | None = None
