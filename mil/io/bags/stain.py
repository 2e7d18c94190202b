"""Stains of a slide as its bag states them, and the map of colours that follows from them.

By Beer and Lambert the optical densities of a pixel, -ln((I + 1) / 240) of its red, green and
blue, are W c: the colours of the stains, W [3, 2], times how much of each there is, c [2].
"""

from typing import Annotated, get_args

import numpy as np
from jaxtyping import Float
from pydantic import Field, ValidationError, model_validator

from mil.config import Section
from mil.config.stages import StainNorm
from mil.config.stain import NO_STAIN_NORM
from mil.errors import FormatError
from mil.io.bags.content import BagHeader

METHODS = frozenset(get_args(StainNorm)) - {NO_STAIN_NORM}

# The slide to which others are normalised, of Macenko's group: colours (red, green, blue) of
# hematoxylin and eosin, and the 99th percentile of how much of each there is. Published with
# https://github.com/mitkovetta/staining-normalization, and the defaults of torchstain and
# histocartography: results depend on no slide of a study.
REFERENCE_COLOURS = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
REFERENCE_MAXIMA = (1.9705, 1.0308)

# Characters of a name that a message quotes.
MOST_SHOWN = 40

Component = Annotated[float, Field(ge=-1, le=1)]
Colour = tuple[Component, Component, Component]
# Optical densities of stained pixels are 0.15 or more; amounts are of their size. Others would
# overflow in the map of colours.
LEAST_MAXIMUM = 1e-3
Maximum = Annotated[float, Field(ge=LEAST_MAXIMUM, le=1000)]


class SlideStain(Section):
    """Stains of a slide, or the reason why its tiles are encoded as they are.

    Attributes:
        colours: Colours of hematoxylin and eosin, unit vectors of optical density (red,
            green, blue); None: not estimated.
        maxima: 99th percentile of the amounts of both; None: not estimated.
        unchanged: Reason why there is no estimate; empty where there is one.
    """

    colours: tuple[Colour, Colour] | None = None
    maxima: tuple[Maximum, Maximum] | None = None
    unchanged: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _has_both(self) -> "SlideStain":
        if (self.colours is None) != (self.maxima is None):
            raise ValueError("colours and maxima belong together")
        return self

    def to_reference(self) -> Float[np.ndarray, "3 3"] | None:
        """Matrix from the optical densities of a pixel to those on the reference slide.

        W_ref diag(maxima_ref / maxima) W^+ with W^+ the pseudo-inverse of the slide's own
        colours: what each stain absorbs is separated, scaled and put together again in the
        colours of the reference. None: tiles stay as they are.
        """
        if self.colours is None or self.maxima is None:
            return None
        scale = np.divide(REFERENCE_MAXIMA, self.maxima)
        own = np.array(self.colours).T
        matrix: Float[np.ndarray, "3 3"] = (
            np.array(REFERENCE_COLOURS).T * scale @ np.linalg.pinv(own)
        )
        return matrix


def stain_of(header: BagHeader) -> SlideStain | None:
    """Stains that a bag states; None: its tiles were not normalised.

    Raises:
        FormatError: The bag states something else; it may come from anywhere.
    """
    if not header.stain_norm:
        return None
    if header.stain_norm not in METHODS:
        raise _unusable(header, f"no method is called {header.stain_norm[:MOST_SHOWN]!r}")
    try:
        stain = SlideStain.model_validate_json(header.stain or "{}")
    except ValidationError as error:
        raise _unusable(header, error.errors()[0]["msg"]) from None
    # Only a slide without tiles has no stains.
    if header.state == "ok" and stain == SlideStain():
        raise _unusable(header, "it has neither colours nor a reason why it has none")
    return stain


def _unusable(header: BagHeader, fault: str) -> FormatError:
    return FormatError(
        f"bag of {header.slide}: its stain cannot be used ({fault}); extract its features again"
    )
