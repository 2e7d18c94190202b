"""Thresholds of the two attempts to find tissue."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sensitivity:
    """Thresholds of one attempt to find tissue.

    Attributes:
        smooth_um: standard deviation of the smoothing, micrometres.
        faintest: bounds of the faintest colour that is tissue, optical density. Between
            them it follows the spread of colour on the slide's glass.
        thin_um: mean width up to which a long region is a line, micrometres.
        needs_texture: whether faint colour must have texture, and small faint regions
            something sure; see `mil.tile.colour` and `mil.tile.tissue_regions`.
    """

    smooth_um: float
    faintest: tuple[float, float]
    thin_um: float
    needs_texture: bool


# All slides are searched with the first; where hardly anything is found, the second
# looks for larger and fainter things, such as a pale node.
USUAL = Sensitivity(smooth_um=12.0, faintest=(0.024, 0.04), thin_um=70.0, needs_texture=True)
SENSITIVE = Sensitivity(smooth_um=30.0, faintest=(0.015, 0.03), thin_um=180.0, needs_texture=False)
