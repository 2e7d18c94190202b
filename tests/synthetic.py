"""Slides and bags that the tests make: small, and with a truth that is known exactly."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from mil.io.bags import bag_of, write_bag
from mil.io.tiles import TileGeometry, Tiles

GLASS = (243, 242, 244)
ENCODER = {
    "encoder": "tiny",
    "encoder_revision": "tiny.1",
    "weights_sha256": "0" * 64,
    "transform": "none",
    "precision": "fp32",
}


def write_slide(
    path: Path,
    pixels: np.ndarray,
    mpp: float | None,
    levels: Sequence[float] = (1,),
    tile: int = 256,
    compression: str | None = "zlib",
    rounding: Callable[[float], int] = math.floor,
) -> list[np.ndarray]:
    """Write a pyramidal tiled TIFF that OpenSlide opens.

    Args:
        path: a .tif.
        pixels: level 0, uint8 [height, width, 3].
        mpp: micrometres per pixel of level 0; None leaves the resolution out.
        levels: downsample of each level, from 1; contents keep their place exactly.
        tile: side of the file's tiles, pixels.
        compression: `zlib` or None are lossless, `jpeg` is not.
        rounding: of the levels' sizes: `math.floor` drops the last part of a pixel,
            `math.ceil` completes it.

    Returns:
        Pixels of each level.
    """
    height, width = pixels.shape[:2]
    made = []
    for factor in levels:
        size = (rounding(width / factor), rounding(height / factor))
        beyond = (
            (0, max(0, round(size[1] * factor) - height)),
            (0, max(0, round(size[0] * factor) - width)),
            (0, 0),
        )
        whole = Image.fromarray(np.pad(pixels, beyond, mode="edge"))
        box = (0.0, 0.0, size[0] * factor, size[1] * factor)
        made.append(
            pixels if factor == 1 else np.asarray(whole.resize(size, Image.Resampling.BOX, box=box))
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for number, (level, factor) in enumerate(zip(made, levels, strict=True)):
            scale = (
                {}
                if mpp is None
                else {"resolution": (1e4 / (mpp * factor),) * 2, "resolutionunit": "CENTIMETER"}
            )
            file.write(
                level,
                tile=(tile, tile),
                photometric="rgb",
                compression=compression,
                metadata=None,
                maxworkers=1,
                subfiletype=min(number, 1),
                compressionargs={"level": 92} if compression == "jpeg" else None,
                **scale,
            )
    return made


def write_aperio(path: Path, pixels: np.ndarray, description: str) -> None:
    """Write an Aperio-like .svs of one level, uncompressed, with the given description."""
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", metadata=None, description=description
    )


def spoil_tile(path: Path, index: int) -> None:
    """Damage one compressed tile of level 0, counted row by row: it cannot be decoded."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset = page.dataoffsets[index]
        count = page.databytecounts[index]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)


def glass(
    size_px: tuple[int, int], seed: int = 0, colour: tuple[int, int, int] = GLASS
) -> np.ndarray:
    """An empty slide, uint8 [height, width, 3], with the camera's noise."""
    noise = np.random.default_rng(seed).normal(0, 1.5, (size_px[1], size_px[0], 1))
    return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


def stain(picture: np.ndarray, where: np.ndarray, seed: int = 0, strength: float = 1.0) -> None:
    """Paint tissue inside the mask: eosin pink, purple nuclei; strength 1 is usual, 0.25 pale."""
    rng = np.random.default_rng(seed)
    nuclei = rng.random(where.shape) < 0.2
    density = np.where(nuclei[..., None], (0.55, 0.85, 0.4), (0.1, 0.5, 0.2)) * strength
    density = density * rng.uniform(0.85, 1.15, (*where.shape, 1))
    painted = picture * np.exp(-density)
    picture[where] = painted.clip(0, 255).astype(np.uint8)[where]


def tissue_slide(
    path: Path,
    size_px: tuple[int, int] = (1024, 768),
    mpp: float | None = 0.5,
    seed: int = 0,
    *,
    box_px: tuple[int, int, int, int] | None = None,
    ellipse: bool = False,
    levels: Sequence[float] = (1, 4),
    compression: str | None = "jpeg",
) -> tuple[int, int, int, int]:
    """Write a slide with one piece of tissue on glass.

    Args:
        path: a .tif.
        size_px: width and height of level 0.
        mpp: micrometres per pixel.
        seed: of noise and nuclei.
        box_px: left, top, right, bottom of the tissue; None: the middle half.
        ellipse: the ellipse inside the box instead of the whole box.
        levels: see `write_slide`.
        compression: see `write_slide`.

    Returns:
        The box.
    """
    width, height = size_px
    box = box_px or (width // 4, height // 4, width * 3 // 4, height * 3 // 4)
    content = _tissue_file(size_px, mpp, seed, box, ellipse, tuple(levels), compression)
    _write_anew(path, content)
    return box


def _write_anew(path: Path, content: bytes) -> None:
    """Write a file that shares nothing with one that may be open under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


# Many tests want the same slide: it is painted once.
@lru_cache(maxsize=32)
def _tissue_file(
    size_px: tuple[int, int],
    mpp: float | None,
    seed: int,
    box_px: tuple[int, int, int, int],
    ellipse: bool,
    levels: tuple[float, ...],
    compression: str | None,
) -> bytes:
    """Content of the file that `tissue_slide` writes."""
    width, height = size_px
    left, top, right, bottom = box_px
    x = np.arange(width)[None, :] + 0.5
    y = np.arange(height)[:, None] + 0.5
    where = (x > left) & (x < right) & (y > top) & (y < bottom)
    if ellipse:
        across = (2 * x - left - right) / (right - left)
        down = (2 * y - top - bottom) / (bottom - top)
        where = across**2 + down**2 < 1
    picture = glass(size_px, seed)
    stain(picture, where, seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_slide(path, picture, mpp, levels, compression=compression)
        return path.read_bytes()


def make_tiles(
    coords: np.ndarray | None = None,
    *,
    slide: str = "s1",
    state: str = "ok",
    reason: str = "",
    tile_px: int = 224,
    target_mpp: float = 0.5,
    mpp: float = 0.25,
    **geometry: Any,
) -> Tiles:
    """Tiles in memory; by default two of a slide of 4000 x 3000 pixels at 0.25 µm/px."""
    coords = np.array([[0, 0], [448, 0]]) if coords is None else np.asarray(coords)
    usual = {
        "width_level0_px": 4000,
        "height_level0_px": 3000,
        "origin_x_level0_px": 0,
        "origin_y_level0_px": 0,
        "tissue_mm2": 1.5,
        "overview_scale": 4.0,
        "mpp_source": "openslide",
        "side_level0_px": tile_px * target_mpp / mpp,
    }
    filled = TileGeometry(
        slide=slide,
        state=state,
        reason=reason,
        tile_px=tile_px,
        target_mpp=target_mpp,
        mpp_level0=mpp,
        **{**usual, **geometry},
    )
    return Tiles(filled, coords.astype(np.int32).reshape(-1, 2), np.ones(len(coords), np.float32))


# Contents of small bags: many tests write the same ones.
_BAGS: dict[tuple[Any, ...], bytes] = {}


def bag_file(
    path: Path,
    slide: str,
    features: np.ndarray,
    coords: np.ndarray | None = None,
    *,
    valid: np.ndarray | None = None,
    state: str = "ok",
    reason: str = "",
    encoder: dict[str, Any] | None = None,
    **geometry: Any,
) -> Tiles:
    """Write a valid bag through `mil.io`; by default its tiles lie side by side in one row.

    Returns:
        The tiles it was made from.
    """
    features = np.asarray(features)
    side = round(make_tiles(**geometry).geometry.side_level0_px)
    if coords is None:
        coords = np.stack([np.arange(len(features)) * side, np.zeros(len(features), int)], axis=1)
    tiles = make_tiles(coords, slide=slide, **geometry)
    valid = np.ones(len(features), bool) if valid is None else valid
    said = {**ENCODER, **(encoder or {})}
    bag = bag_of(
        tiles, features.astype(np.float16), valid, state=state, reason=reason, encoder=said
    )
    arrays = (bag.features, tiles.coords, valid)
    key = str([slide, state, reason, said, geometry]), *((a.shape, a.tobytes()) for a in arrays)
    if key in _BAGS:
        _write_anew(path, _BAGS[key])
    else:
        write_bag(path, bag)
        if path.stat().st_size < 100_000:
            _BAGS[key] = path.read_bytes()
    return tiles


def planted_bags(
    count: int = 40, tiles: int = 8, dim: int = 16, push: float = 6.0, seed: int = 0
) -> list[tuple[np.ndarray, int]]:
    """Bags of noise, float32 [tiles, dim], with labels.

    Each positive bag has one tile shifted along the first axis.
    """
    rng = np.random.default_rng(seed)
    bags = []
    for number in range(count):
        features = rng.normal(size=(tiles, dim)).astype(np.float32)
        label = number % 2
        features[rng.integers(tiles), 0] += push * label
        bags.append((features, label))
    return bags
