"""Read tiles on threads while the encoder computes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mil.io.slides import TileRequest, stream

Encode = Callable[[torch.Tensor], torch.Tensor]


def extract(
    slide: Path,
    coords: Int[np.ndarray, "tiles 2"],
    encode: Encode,
    *,
    dim: int,
    side_level0_px: float,
    tile_px: int,
    batch_size: int,
    workers: int,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Float[np.ndarray, "tiles dim"], Bool[np.ndarray, " tiles"]]:
    """Features of all tiles of a slide.

    Args:
        slide: the slide's file.
        coords: top left corners, level-0 pixels.
        encode: uint8 pixels [tiles, height, width, 3] to features [tiles, dim].
        dim: length of a feature vector.
        side_level0_px: side of a tile on the slide, level-0 pixels.
        tile_px: side of a tile as the encoder sees it, pixels.
        batch_size: tiles per step; batches do not depend on `workers`, so neither do the features.
        workers: reading threads.
        advance: told the number of tiles done after each step.

    Returns:
        Features in the order of `coords`, zeros where a tile could not be read, and which tiles could.
    """
    features = np.zeros((len(coords), dim), np.float32)
    valid = np.zeros(len(coords), bool)
    request = TileRequest(slide, coords, side_level0_px, tile_px)
    for batch in stream([request], batch_size=batch_size, workers=workers):
        if batch.error is not None:
            raise batch.error
        rows, readable = slice(batch.first, batch.first + len(batch.pixels)), batch.readable
        if readable.any():
            features[rows][readable] = encode(torch.from_numpy(batch.pixels[readable])).numpy()
        valid[rows] = readable
        advance(len(batch.pixels))
    return features, valid
