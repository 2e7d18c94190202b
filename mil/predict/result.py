"""Predictions of one slide, or the state that it ended in."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mil.predict.curve import Curve


@dataclass(frozen=True)
class SlidePrediction:
    """Predictions of a slide, or the state that it ended in.

    Attributes:
        slide: Id of the slide.
        state: Named state.
        reason: Reason of the state.
        tiles: Number of tiles that could be read.
        predictions: Predictions of each head, in the order of the task's columns; empty
            unless the state is `ok`.
        tiles_per_s: Tiles read and embedded a second.
        curve: Predictions after every share of the tiles, if asked for.
    """

    slide: str
    state: str = "not reached"
    reason: str = ""
    tiles: int = 0
    predictions: list[Float[np.ndarray, " columns"]] = field(default_factory=list)
    tiles_per_s: float = 0.0
    curve: Curve | None = None
