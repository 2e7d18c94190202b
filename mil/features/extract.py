"""Read tiles on threads while the encoder computes."""

from collections.abc import Callable
from contextlib import closing
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
    max_unreadable: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Float[np.ndarray, "tiles dim"], Bool[np.ndarray, " tiles"], int]:
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
        max_unreadable: with more unreadable tiles than this the rest is not tried; None: all are.
        advance: told the number of tiles done after each step.

    Returns:
        Features in the order of `coords`, zeros where a tile could not be read; which tiles were; how many were tried.
    """
    features = np.zeros((len(coords), dim), np.float32)
    valid = np.zeros(len(coords), bool)
    tried = 0
    request = TileRequest(slide, coords, side_level0_px, tile_px)
    with closing(stream([request], batch_size=batch_size, workers=workers)) as batches:
        for batch in batches:
            if batch.error is not None:
                raise batch.error
            rows, readable = slice(batch.first, batch.first + len(batch.pixels)), batch.readable
            if readable.any():
                features[rows][readable] = encode(torch.from_numpy(batch.pixels[readable])).numpy()
            valid[rows], tried = readable, rows.stop
            advance(len(batch.pixels))
            if max_unreadable is not None and (~valid[:tried]).sum() > max_unreadable:
                break
    return features, valid, tried
