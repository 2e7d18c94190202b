"""The glass's own slow change of colour over a slide, subtracted from it."""

import numpy as np
from jaxtyping import Bool

from mil.tile.density import STRIP_ROWS, BoolMask, Plane
from mil.tile.morphology import largest_near_at

# Glass has less colour than this near by.
GLASS_COLOUR = 0.06
# The glass's own colour is fitted where at least this share of the slide, and this many
# of the sampled pixels, are glass.
GLASS_SHARE = 0.3
GLASS_SAMPLES = 50
# Largest spread of colour on glass that is even.
EVEN_SPREAD = 0.008
# Residuals beyond three standard deviations, at least this colour, are tissue among the
# glass: they are left out of the fit step by step.
FIT_STEPS = 12
OUTLIER_DEVIATIONS = 3
OUTLIER_COLOUR = 0.004
# Standard deviation of a normal distribution over its median absolute deviation.
DEVIATION_PER_MAD = 1.4826


def colour_of(over_red: Plane, over_blue: Plane) -> Plane:
    """Most light lost in a channel less the least lost in a channel."""
    colour = over_red - over_blue
    # In strips, which stay in the processor's cache.
    for top in range(0, len(colour), STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        strip = colour[rows]
        np.abs(strip, out=strip)
        for plane in (over_red[rows], over_blue[rows]):
            np.maximum(strip, np.abs(plane), out=strip)
    return colour


def subtract_glass(
    over_red: Plane, over_blue: Plane, clear: BoolMask, reach_px: int, step_px: int = 8
) -> float:
    """Subtract the glass's own slow change of colour, in place.

    That is done where enough glass is seen and its colour is even.

    Args:
        over_red: light lost in green beyond that lost in red; changed.
        over_blue: light lost in green beyond that lost in blue; changed.
        clear: pixels that may be glass.
        reach_px: distance within which glass has little colour, pixels.
        step_px: distance of the sampled pixels.

    Returns:
        The spread of colour that is left on glass; infinite where nothing could be
        subtracted.
    """
    rows, columns = (np.arange(((side - 1) % step_px) // 2, side, step_px) for side in clear.shape)
    sampled = np.ix_(rows, columns)
    near = largest_near_at(colour_of(over_red, over_blue), reach_px, rows, columns)
    glass = (near < GLASS_COLOUR) & clear[sampled]
    if glass.mean() < GLASS_SHARE or glass.sum() < GLASS_SAMPLES:
        return np.inf
    return max(_subtract_surface(values, sampled, glass) for values in (over_red, over_blue))


def _subtract_surface(
    values: Plane, sampled: tuple[np.ndarray, ...], glass: Bool[np.ndarray, "rows columns"]
) -> float:
    """Fit a polynomial of second degree to the sampled glass; subtract it if glass lies close.

    Returns:
        The standard deviation of the residuals; infinite where it is too large.
    """
    rows, columns = sampled
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in values.shape)
    powers = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
    terms = [(y[rows] ** i * x[columns] ** j)[glass] for i, j in powers]
    basis = np.stack(terms, axis=-1)
    observed = values[sampled][glass]
    inliers = np.ones(len(observed), bool)
    before = None
    for _ in range(FIT_STEPS):
        # The same pixels give the same surface.
        if before is not None and np.array_equal(before, inliers):
            break
        before = inliers
        weights = np.linalg.lstsq(basis[inliers], observed[inliers], rcond=None)[0]
        residuals = abs(observed - basis @ weights)
        limit = OUTLIER_DEVIATIONS * DEVIATION_PER_MAD * float(np.median(residuals))
        inliers = residuals <= max(limit, OUTLIER_COLOUR)
    spread = DEVIATION_PER_MAD * float(np.median(residuals[inliers]))
    if spread > EVEN_SPREAD:
        return np.inf
    # The surface is a product of matrices, powers of y by powers of x: one pass.
    by_power = np.zeros((3, 3), np.float32)
    for weight, (i, j) in zip(weights, powers, strict=True):
        by_power[i, j] = weight
    powers_of_y, powers_of_x = (np.vander(at, 3, increasing=True) for at in (y, x))
    values -= powers_of_y @ by_power @ powers_of_x.T
    return spread
