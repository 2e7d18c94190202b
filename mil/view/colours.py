"""Colour maps of score layers, all readable with a colour-vision deficiency, from Bokeh."""

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from mil.errors import ConfigError
from mil.view.paint import COLOURS

# By the name on the page: the palette of Bokeh, and whether it is read backwards.
SEQUENTIAL = {
    "inferno": ("Inferno256", False),
    "viridis": ("Viridis256", False),
    "cividis": ("Cividis256", False),
    "grey": ("Greys256", False),
}
# Zero is their middle: against the prediction below, for it above.
DIVERGING = {
    "blue-red": ("RdBu11", False),
    "purple-green": ("PRGn11", False),
    "teal-brown": ("BrBG11", True),
}


def names_of(*, signed: bool) -> list[str]:
    """Names of the colour maps for values of one sign, or of both; the first is the default."""
    return list(DIVERGING if signed else SEQUENTIAL)


@cache
def colours_named(name: str, *, signed: bool) -> UInt8[np.ndarray, "255 3"]:
    """Colours of a map from its bottom to its top; empty name: the default.

    Raises:
        ConfigError: There is no such map for these values.
    """
    from bokeh import palettes

    table = DIVERGING if signed else SEQUENTIAL
    if name and name not in table:
        raise ConfigError(f"no colour map is called {name[:40]!r}; choose of {', '.join(table)}")
    palette, backwards = table[name or next(iter(table))]
    stops = [_rgb(text) for text in getattr(palettes, palette)]
    return _stretched(np.array(stops[::-1] if backwards else stops, float))


def _rgb(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text.removeprefix("#")))


def _stretched(stops: Float[np.ndarray, "stops 3"]) -> UInt8[np.ndarray, "255 3"]:
    """As many colours as a layer has, between the given ones."""
    at = np.linspace(0, len(stops) - 1, COLOURS)
    channels = [np.interp(at, range(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.stack(channels, 1).round().astype(np.uint8)


def as_hex(colours: UInt8[np.ndarray, "n 3"]) -> list[str]:
    """Colours as CSS has them: `#rrggbb`."""
    return [f"#{bytes(colour).hex()}" for colour in colours]
