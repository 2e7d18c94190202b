"""Repeating fine textures: fibres, and the grain that all tissue has."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mil.demo.noise import Field, Rng

FIBRE_PERIOD_UM = 512.0
# Distances at which grain and sensor noise repeat, pixels.
GRAIN_PX = 1024
NOISE_PX = 512
# Side at which the fibres' random numbers are drawn, whatever the texture's side: so
# both scanners see the same fibres.
_SPECTRUM_SIDE = 1024
# Layers of fibres: size across and along, um, and weight.
_FIBRE_LAYERS = (
    (0.55, 26, 0.55),
    (1.6, 55, 0.75),
    (4.5, 80, 0.6),
)
# Layers of grain: size, um, and weight.
_GRAIN_LAYERS = (
    (0.35, 0.55),
    (0.9, 0.75),
    (2.4, 0.6),
)


@lru_cache(maxsize=2)
def fibre_texture(texels: int) -> Field:
    """Collagen running along the second axis.

    It is 0 on average, down to -1 in clefts, up to 1 on bundles.

    Args:
        texels: side of the square texture, which is 512 um.
    """
    rng = np.random.default_rng(3)
    texture = np.zeros((texels, texels), np.float32)
    for across_um, along_um, weight in _FIBRE_LAYERS:
        texture += weight * _stretched(rng, texels, across_um, along_um)
    ridge = _stretched(rng, texels, 1.5, 20) + 0.5 * texture - 1.55
    cleft = np.tanh(2.2 * np.maximum(ridge, 0))
    bundle = 0.42 * np.tanh(0.8 * texture)
    fibres = (bundle - cleft * 1.3).clip(-1, 1)
    return fibres.astype(np.float32)


def _stretched(rng: Rng, texels: int, across_um: float, along_um: float) -> Field:
    """Periodic Gaussian noise of standard deviation 1, with its own scale on each axis."""
    side = _SPECTRUM_SIDE
    half = side // 2
    white = rng.standard_normal((side, side), dtype=np.float32)
    spectrum = fft.rfft2(white)
    row = fft.fftfreq(side, FIBRE_PERIOD_UM / side)[:, None]
    column = fft.rfftfreq(side, FIBRE_PERIOD_UM / side)[None, :]
    # Fourier transform of a Gaussian, whose standard deviations are the scales.
    squares = (row * across_um) ** 2 + (column * along_um) ** 2
    gaussian = np.exp(-2 * np.pi**2 * squares)
    spectrum *= gaussian.astype(np.float32)
    if texels != side:
        # Padding the spectrum with zeros interpolates the noise.
        wide = np.zeros((texels, texels // 2 + 1), np.complex64)
        wide[:half, :half] = spectrum[:half, :half]
        wide[-half:, :half] = spectrum[-half:, :half]
        spectrum = wide
    noise = fft.irfft2(spectrum, s=(texels, texels))
    stretched: Field = (noise / noise.std()).astype(np.float32)
    return stretched


@lru_cache(maxsize=2)
def grain_texture(mpp: float, margin: int) -> Field:
    """Grain of standard deviation 1 that repeats every `GRAIN_PX`.

    Args:
        mpp: um per pixel.
        margin: pixels that are repeated at the far edges.
    """
    rng = np.random.default_rng(4)
    side = GRAIN_PX
    row = fft.fftfreq(side, mpp)[:, None]
    column = fft.rfftfreq(side, mpp)[None, :]
    frequency = np.hypot(row, column)
    white = fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    total = np.zeros((side, side), np.float32)
    for scale_um, weight in _GRAIN_LAYERS:
        gaussian = np.exp(-2 * (np.pi * scale_um * frequency) ** 2)
        noise = fft.irfft2(white * gaussian, s=(side, side))
        total += (weight * noise / noise.std()).astype(np.float32)
        # The same random numbers elsewhere in the spectrum serve the next layer.
        phase = np.exp(1j * scale_um).astype(np.complex64)
        white = np.roll(white, 97, axis=0) * phase
    return np.pad(total / total.std(), (0, margin), mode="wrap")


def sensor_noise(margin: int) -> NDArray[np.float32]:
    """Noise of a camera in grey levels, [NOISE_PX + margin, NOISE_PX + margin, 3].

    Args:
        margin: pixels that are repeated at the far edges.
    """
    rng = np.random.default_rng(6)
    # A part of each colour's own, and a part that all colours share.
    noise = 1.1 * rng.standard_normal((NOISE_PX, NOISE_PX, 3), dtype=np.float32)
    noise += 0.6 * rng.standard_normal((NOISE_PX, NOISE_PX, 1), dtype=np.float32)
    return np.pad(noise, ((0, margin), (0, margin), (0, 0)), mode="wrap")
