"""Stain normalisation by slide before an encoder: Macenko et al., ISBI 2009.

The stains of a slide are estimated once, from tiles all over it. Estimates of single tiles
differ by tens of degrees, and would give tumour and stroma the same colours.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mil.config import FeaturesConfig
from mil.config.stain import NEEDS_TORCHSTAIN, NO_STAIN_NORM
from mil.encoders.resample import fast_resample
from mil.errors import ConfigError
from mil.features.extract import EncodesTiles
from mil.io.bags.stain import LEAST_MAXIMUM, SlideStain
from mil.io.slides import TileRequest, stream

# Tiles of a slide, and pixels along a side of each, from which stains are estimated. On 400
# tiles of colon the colours then differ by 1 degree from those of all tiles.
SAMPLE_TILES = 64
SAMPLE_SIDE = 56
BATCH_TILES = 16
SEED = 0
# Intensity of the light without tissue, and the smallest optical density that counts as stained
# (in each channel); as published.
LIGHT = 240
LEAST_DENSITY = 0.15
FEWEST_PIXELS = 2000
# Angle between both colours, degrees. It is 17 to 45 on slides in hematoxylin and eosin, and
# near 0 on grey ones, where the amounts of both are noise.
SMALLEST_ANGLE = 5.0
# In fluorescence the glass is dark: three of four pixels of tissue lie below this value.
DARK = 64

Pixels = UInt8[np.ndarray, "pixels 3"]


def stain_of_slide(request: TileRequest, *, threads: int) -> SlideStain:
    """Estimate the stains of a slide from a sample of its tiles, always the same.

    Args:
        request: Slide and all its tiles.
        threads: Threads for reading.

    Raises:
        ConfigError: The package that estimates stains is not installed.
        UnreadableSlideError: The slide does not open.
    """
    count = len(request.coords)
    rng = np.random.default_rng(SEED)
    drawn = np.sort(rng.choice(count, min(count, SAMPLE_TILES), replace=False))
    sample = TileRequest(
        request.slide,
        request.coords[drawn],
        request.side_level0_px,
        request.tile_px,
        request.scene,
    )
    batches = stream([sample], batch_size=BATCH_TILES, workers=threads, resampler=fast_resample)
    pixels = []
    with closing(batches):
        for batch in batches:
            if batch.error is not None:
                raise batch.error
            pixels.append(sampled(batch.pixels[batch.readable]))
    return fit_stain(np.concatenate(pixels))


def sampled(tiles: UInt8[np.ndarray, "tiles height width 3"]) -> Pixels:
    """Pixels of tiles on a grid of about `SAMPLE_SIDE` a side."""
    step = max(1, tiles.shape[1] // SAMPLE_SIDE)
    return tiles[:, ::step, ::step].reshape(-1, 3)


def fit_stain(pixels: Pixels) -> SlideStain:
    """Stains of a slide from pixels of its tissue.

    Hematoxylin is the colour that absorbs more red for its green. The published rule compares
    red alone, of which both absorb nearly the same on some scanners.

    Args:
        pixels: Pixels from all over the slide; glass among them does no harm.

    Raises:
        ConfigError: The package that estimates stains is not installed.
    """
    normalizer = _normalizer()
    # The darkest channel decides: a pixel that transmits one colour fully is not stained.
    brightest = int(LIGHT * np.exp(-LEAST_DENSITY)) - 1
    stained = pixels[pixels.max(axis=1) <= brightest]
    if len(stained) < FEWEST_PIXELS:
        return SlideStain(unchanged=f"{len(stained)} pixels are stained in its sample of tiles")
    if np.percentile(pixels.max(axis=1), 75) < DARK:
        return SlideStain(unchanged="its tiles are dark, as in fluorescence")
    normalizer.fit(pixels[:, None], Io=LIGHT, beta=LEAST_DENSITY)
    colours, maxima = normalizer.HERef, normalizer.maxCRef
    is_finite = np.isfinite(colours).all() and np.isfinite(maxima).all()
    if not (is_finite and (maxima >= LEAST_MAXIMUM).all()):
        return SlideStain(unchanged="its colours are not those of two stains")
    angle = np.degrees(np.arccos(np.clip(colours[:, 0] @ colours[:, 1], -1, 1)))
    if angle < SMALLEST_ANGLE:
        return SlideStain(unchanged=f"its colours are those of one stain, to {angle:.1f} degrees")
    first, second = colours.T.tolist()
    first_maximum, second_maximum = maxima.tolist()
    if first[0] * second[1] >= second[0] * first[1]:
        return SlideStain(colours=(first, second), maxima=(first_maximum, second_maximum))
    return SlideStain(colours=(second, first), maxima=(second_maximum, first_maximum))


def stain_for(config: FeaturesConfig, request: TileRequest, *, threads: int) -> SlideStain | None:
    """Stains of a slide as the configuration asks for them; None: no normalisation.

    Args:
        config: Section `features`.
        request: Slide and all its tiles.
        threads: Threads for reading.

    Raises:
        ConfigError: The package that estimates stains is not installed.
        UnreadableSlideError: The slide does not open.
    """
    if config.stain_norm == NO_STAIN_NORM:
        return None
    return stain_of_slide(request, threads=threads)


def check_stain_norm(config: FeaturesConfig) -> None:
    """Refuse a method whose package is not installed, before hours of work.

    Raises:
        ConfigError: It is not.
    """
    if config.stain_norm != NO_STAIN_NORM:
        _normalizer()


def stain_facts(stain_norm: str, stain: SlideStain | None) -> dict[str, str]:
    """Fields of a bag's header about stains; none where they are not normalised.

    Args:
        stain_norm: Method, or `none`.
        stain: Stains of the slide; None: a slide without tiles, or no normalisation.
    """
    if stain_norm == NO_STAIN_NORM:
        return {}
    content = "" if stain is None else stain.model_dump_json(exclude_defaults=True)
    return {"stain_norm": stain_norm, "stain": content}


def with_stain(reason: str, stain: SlideStain | None) -> str:
    """The reason of a slide's state, and why its stains were not normalised."""
    if stain is None or not stain.unchanged:
        return reason
    unchanged = f"stains not normalised: {stain.unchanged}"
    return f"{reason}; {unchanged}" if reason else unchanged


def _normalizer() -> Any:
    # Here, because nothing else needs it.
    try:
        from torchstain.numpy.normalizers import NumpyMacenkoNormalizer
    except ImportError:
        raise ConfigError(NEEDS_TORCHSTAIN) from None
    return NumpyMacenkoNormalizer()


# Natural logarithms as published; a table is as fast as reading the pixels.
DENSITY = (-np.log((np.arange(256) + 1) / LIGHT)).astype(np.float32)


def normalise(
    tile: UInt8[np.ndarray, "height width 3"], matrix: Float[np.ndarray, "3 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """A tile in the colours of the reference slide.

    Args:
        tile: Pixels of a tile.
        matrix: See `SlideStain.to_reference`.
    """
    # Channels first: the product and the exponential then run over contiguous memory.
    density = np.ascontiguousarray(DENSITY[tile].reshape(-1, 3).T)
    intensity = -matrix.astype(np.float32) @ density
    np.exp(intensity, out=intensity)
    intensity *= LIGHT
    np.minimum(intensity, 255, out=intensity)
    return intensity.T.astype(np.uint8).reshape(tile.shape)


def normalised(
    encoders: Sequence[EncodesTiles], stain: SlideStain | None
) -> Sequence[EncodesTiles]:
    """Encoders of tiles whose stains are normalised first.

    Args:
        encoders: Encoders.
        stain: Stains of the slide; None: no normalisation, the encoders themselves.
    """
    matrix = None if stain is None else stain.to_reference()
    return encoders if matrix is None else [_Normalised(encoder, matrix) for encoder in encoders]


class _Normalised:
    """An encoder behind a stain normalisation, in the threads that encode."""

    def __init__(self, encoder: EncodesTiles, matrix: Float[np.ndarray, "3 3"]) -> None:
        self.dim = encoder.dim
        self._encoder = encoder
        self._matrix = matrix

    def __call__(self, pixels: UInt8[Tensor, "tiles height width 3"]) -> Float[Tensor, "tiles dim"]:
        # One tile after another: its 600 kB stay in the caches of a processor.
        tiles = [normalise(tile, self._matrix) for tile in pixels.numpy()]
        return self._encoder(torch.from_numpy(np.stack(tiles)))
