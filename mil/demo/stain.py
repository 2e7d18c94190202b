"""Colour: Beer-Lambert absorption with each slide's own stains, and the scanner's light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mil.demo.noise import Field
from mil.demo.plan import DemoSlide
from mil.demo.tissue import stream

# Directions of the dyes in optical density (red, green, blue); a slide's hue lies
# between the two rows.
_HAEMATOXYLIN = np.array(
    [
        [0.50, 0.72, 0.46],  # browner
        [0.68, 0.70, 0.20],  # bluer
    ]
)
_EOSIN = np.array(
    [
        [0.16, 0.80, 0.60],  # pinker
        [0.14, 0.94, 0.30],  # more magenta
    ]
)
_RED_CELL = np.array([0.10, 0.80, 0.66])
# Light of bare glass by scanner, 0..255.
_LIGHT = {"A": (244.0, 243.0, 240.0), "B": (239.0, 239.0, 243.0)}
# Optical density of marker ink by colour.
PEN = {"blue": (1.5, 0.9, 0.28), "green": (1.5, 0.45, 0.85), "black": (1.7, 1.65, 1.55)}


@dataclass(frozen=True)
class Stain:
    """Colours of a slide, each as (red, green, blue).

    Attributes:
        haem: optical density per unit of haematoxylin.
        eosin: optical density per unit of eosin.
        red_cell: optical density per unit of red-cell pigment.
        light: light of bare glass, 0..255.
    """

    haem: Field
    eosin: Field
    red_cell: Field
    light: Field


def slide_stain(slide: DemoSlide) -> Stain:
    """The stain of a slide: its batch, thickness and scanner, none of which knows the label."""
    rng = stream(slide, "stain")
    hue, tone = rng.uniform(0, 1, 2)
    haem = (1 - hue) * _HAEMATOXYLIN[0] + hue * _HAEMATOXYLIN[1]
    eosin = (1 - tone) * _EOSIN[0] + tone * _EOSIN[1]
    # Directions first, then strengths: hue and strength are independent.
    haem = haem / np.linalg.norm(haem) * rng.uniform(0.78, 1.20)
    eosin = eosin / np.linalg.norm(eosin) * rng.uniform(0.66, 1.25)
    light = np.array(_LIGHT[slide.scanner]) + rng.normal(0, 1.2, 3)
    return Stain(*(part.astype(np.float32) for part in (haem, eosin, _RED_CELL, light)))
