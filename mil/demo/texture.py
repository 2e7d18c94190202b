"""Repeating fine textures: fibres, and the grain that all tissue has."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mil.demo.noise import Field

FIBRE_PERIOD_UM = 512.0


@lru_cache(maxsize=2)
def fibre_texture(texels: int) -> Field:
    """Collagen running along the second axis: 0 on average, down to -1 in clefts, up to 1 on bundles.

    Args:
        texels: side of the square texture, which is 512 um.
    """
    rng = np.random.default_rng(3)
    texture = np.zeros((texels, texels), np.float32)
    for across_um, along_um, weight in ((0.55, 26, 0.55), (1.6, 55, 0.75), (4.5, 80, 0.6)):
        texture += weight * _stretched(rng, texels, across_um, along_um)
    cleft = np.tanh(2.2 * np.maximum(_stretched(rng, texels, 1.5, 20) + 0.5 * texture - 1.55, 0))
    bundle: Field = (0.42 * np.tanh(0.8 * texture) - cleft * 1.3).clip(-1, 1).astype(np.float32)
    return bundle


def _stretched(rng: np.random.Generator, texels: int, across_um: float, along_um: float) -> Field:
    """Periodic Gaussian noise of deviation 1 with a different scale on each axis."""
    side = 1024
    spectrum = fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    row = fft.fftfreq(side, FIBRE_PERIOD_UM / side)[:, None]
    column = fft.rfftfreq(side, FIBRE_PERIOD_UM / side)[None, :]
    spectrum *= np.exp(-2 * np.pi**2 * ((row * across_um) ** 2 + (column * along_um) ** 2)).astype(
        np.float32
    )
    if texels != side:
        wide = np.zeros((texels, texels // 2 + 1), np.complex64)
        wide[: side // 2, : side // 2] = spectrum[: side // 2, : side // 2]
        wide[-side // 2 :, : side // 2] = spectrum[-side // 2 :, : side // 2]
        spectrum = wide
    noise = fft.irfft2(spectrum, s=(texels, texels))
    stretched: Field = (noise / noise.std()).astype(np.float32)
    return stretched


@lru_cache(maxsize=2)
def grain_texture(mpp: float, margin: int) -> Field:
    """Grain of deviation 1 that repeats every 1024 px, with `margin` px repeated at the far edges."""
    rng = np.random.default_rng(4)
    side = 1024
    frequency = np.hypot(fft.fftfreq(side, mpp)[:, None], fft.rfftfreq(side, mpp)[None, :])
    white = fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    total = np.zeros((side, side), np.float32)
    for scale_um, weight in ((0.35, 0.55), (0.9, 0.75), (2.4, 0.6)):
        noise = fft.irfft2(white * np.exp(-2 * (np.pi * scale_um * frequency) ** 2), s=(side, side))
        total += (weight * noise / noise.std()).astype(np.float32)
        white = np.roll(white, 97, axis=0) * np.exp(1j * scale_um).astype(np.complex64)
    return np.pad(total / total.std(), (0, margin), mode="wrap")


def sensor_noise(margin: int) -> NDArray[np.float32]:
    """Noise of a camera in grey levels, [512 + margin, 512 + margin, 3]."""
    rng = np.random.default_rng(6)
    noise = 1.1 * rng.standard_normal((512, 512, 3), dtype=np.float32)
    noise += 0.6 * rng.standard_normal((512, 512, 1), dtype=np.float32)
    return np.pad(noise, ((0, margin), (0, margin), (0, 0)), mode="wrap")
