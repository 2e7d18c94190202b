"""Read tiles on threads while the encoder computes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader, as_array

Encode = Callable[[torch.Tensor], torch.Tensor]
Batch = tuple[UInt8[np.ndarray, "tiles height width 3"], Bool[np.ndarray, " tiles"]]


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
    first = 0
    for pixels, readable in _batches(slide, coords, side_level0_px, tile_px, batch_size, workers):
        rows = slice(first, first + len(pixels))
        if readable.any():
            features[rows][readable] = encode(torch.from_numpy(pixels[readable])).numpy()
        valid[rows] = readable
        first += len(pixels)
        advance(len(pixels))
    return features, valid


def _batches(
    slide: Path, coords: Int[np.ndarray, "tiles 2"], side: float, tile_px: int, batch_size: int, workers: int
) -> Iterator[Batch]:
    # A handle a thread: after a decoding error a handle is broken, and it must not break the others' reads.
    local = threading.local()

    def open_slide() -> None:
        local.reader = handles.enter_context(SlideReader(slide))

    def read(corner: Int[np.ndarray, " 2"]) -> UInt8[np.ndarray, "height width 3"] | None:
        try:
            return as_array(local.reader.read(float(corner[0]), float(corner[1]), side, tile_px))
        except UnreadableSlideError:
            return None

    def submit(first: int) -> list["Future[UInt8[np.ndarray, 'height width 3'] | None]"]:
        return [pool.submit(read, corner) for corner in coords[first : first + batch_size]]

    with SlideReader(slide):  # a slide that does not open is told here, where it is one line
        pass
    with ExitStack() as handles, ThreadPoolExecutor(workers, initializer=open_slide) as pool:
        # Two batches ahead: one being read while one waits for the encoder; memory stays bounded.
        ahead = [submit(first) for first in (0, batch_size)]
        for first in range(0, len(coords), batch_size):
            tiles = [future.result() for future in ahead.pop(0)]
            ahead.append(submit(first + 2 * batch_size))
            readable = np.array([tile is not None for tile in tiles])
            blank = np.zeros((tile_px, tile_px, 3), np.uint8)
            yield np.stack([blank if tile is None else tile for tile in tiles]), readable
