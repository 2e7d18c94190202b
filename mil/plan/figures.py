"""Numbers with their source, which stay unknown where one that they depend on is."""

from collections.abc import Callable
from typing import NamedTuple

from mil.config.machines import Rate


class Figure(NamedTuple):
    """A number, or what is lacking for it.

    Attributes:
        value: The number; None: unknown.
        source: Where it comes from: a file, a formula; of an unknown one, what would tell.
    """

    value: float | None
    source: str


def rate_figure(rate: Rate | None, lacking: str) -> Figure:
    """Figure of a machine's number.

    Args:
        rate: The number; None: unknown.
        lacking: What would tell it.
    """
    return Figure(None, lacking) if rate is None else Figure(rate.value, rate.source)


def computed(formula: str, function: Callable[..., float], *figures: Figure) -> Figure:
    """Figure that others give; unknown if one of them is.

    Args:
        formula: The formula in words.
        function: The same as a function of the figures' values.
        *figures: What it depends on.
    """
    lacking = dict.fromkeys(figure.source for figure in figures if figure.value is None)
    if lacking:
        return Figure(None, "; ".join(lacking))
    return Figure(function(*(figure.value for figure in figures)), formula)
