"""Coordinates of other tools: whole level-0 pixels, and micrometres."""

import numpy as np
from jaxtyping import Float, Int, Shaped

from mil.errors import FormatError


def whole(coords: Shaped[np.ndarray, "tiles 2"], where: str) -> Int[np.ndarray, "tiles 2"]:
    """Corners in level-0 pixels as whole numbers.

    Raises:
        FormatError: some are fractions, so they are not what the format says.
    """
    rounded = np.rint(coords.astype(float))
    if not (rounded == coords).all():
        raise FormatError(
            f"{where}: coords that are fractions, so not pixels of level 0; are they in another "
            "unit?"
        )
    return rounded.astype(np.int32)


def from_um(coords_um: Float[np.ndarray, "tiles 2"], mpp: float) -> Int[np.ndarray, "tiles 2"]:
    """Corners in level-0 pixels, rounded to the nearest.

    Args:
        coords_um: corners in micrometres.
        mpp: micrometres per pixel of level 0.
    """
    return np.rint(coords_um.astype(float) / mpp).astype(np.int32)


def to_um(
    coords: Int[np.ndarray, "tiles 2"], mpp: float, where: str
) -> Float[np.ndarray, "tiles 2"]:
    """Corners in micrometres, float32 as STAMP keeps them.

    Raises:
        FormatError: float32 cannot tell the pixels apart.
    """
    coords_um = (coords.astype(float) * mpp).astype(np.float32)
    if not (from_um(coords_um, mpp) == coords).all():
        raise FormatError(
            f"{where}: pixels of {mpp} µm so far from the corner do not fit STAMP's float32 "
            "coordinates"
        )
    return coords_um
