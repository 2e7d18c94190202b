"""Large synthetic slides: as many blocks to decode as a real one, in a file of some megabytes."""

import struct
from pathlib import Path
from typing import BinaryIO, Literal

import imagecodecs
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from mil.io.atomic import atomic_path

Codec = Literal["jpeg", "jpeg2000"]
CODECS: tuple[Codec, ...] = ("jpeg", "jpeg2000")
BLOCK_PX = 256
# Reduction of each level of the pyramid.
LEVELS = (1, 4, 16, 64)
MPP = 0.25
# Different blocks of tissue. A reader cannot know that they come again.
TISSUE_BLOCKS = 24
# Share of the slide that the disc of tissue covers.
TISSUE_SHARE = 0.35
# Compression of Aperio: JPEG 2000 of RGB pixels.
APERIO_RGB_J2K = 33005
# Types of values in the tags of a TIFF.
ASCII = 2
SHORT = 3
LONG = 4
LONG8 = 16
# Position in a BigTIFF of the pointer to its first directory.
FIRST_LINK = 8
# Optical density of the stains in red, green and blue.
EOSIN = (0.08, 0.42, 0.18)
HAEMATOXYLIN = (0.6, 0.75, 0.3)


def make_slide(path: Path, side_px: int, codec: Codec, seed: int = 0) -> None:
    """Write a square Aperio-like BigTIFF with a disc of tissue over glass.

    Each block of each level points to one of a few compressed blocks, so that the file
    is small, while a reader must fetch and decode each.

    Args:
        path: the .svs to write.
        side_px: side of level 0, pixels.
        codec: compression of all blocks.
        seed: random seed of the tissue.
    """
    rng = np.random.default_rng(seed)
    encode = _jpeg if codec == "jpeg" else _jpeg2000
    text = f"Aperio Image Library mil.bench\r\n{side_px}x{side_px} {codec}|AppMag = 40|MPP = {MPP}"
    with atomic_path(path) as scratch, scratch.open("wb") as file:
        # Little-endian, BigTIFF (43), pointers of 8 bytes; the last number is the pointer.
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = FIRST_LINK
        blocks = [encode(_glass(rng)), *(encode(_tissue(rng)) for _ in range(TISSUE_BLOCKS))]
        for down in LEVELS:
            link = _write_level(file, link, side_px // down, blocks, codec, text, rng)


def synthetic_slide(folder: Path, codec: Codec, side_px: int = 60_000) -> Path:
    """Write a synthetic slide into a folder, and return its path.

    Args:
        folder: folder for the slide.
        codec: compression of all blocks.
        side_px: side of level 0, pixels.
    """
    path = folder / f"synthetic_{codec}.svs"
    make_slide(path, side_px, codec)
    return path


def _write_level(
    file: BinaryIO,
    link: int,
    side: int,
    blocks: list[bytes],
    codec: Codec,
    text: str,
    rng: np.random.Generator,
) -> int:
    """Write the blocks of a level, the tables that point to them, and the directory.

    Returns:
        Position of the pointer to the next directory.
    """
    starts = file.tell() + np.cumsum([0, *map(len, blocks[:-1])])
    file.write(b"".join(blocks))
    layout = _layout(side, rng)
    sizes = np.array([len(block) for block in blocks])
    tags = _tags(side, codec, text)
    # Position (324) and size (325) of each block of the level, in bytes.
    for tag, values in ((324, starts), (325, sizes)):
        tags.append((tag, LONG8, len(layout), values[layout].astype("<u8").tobytes()))
    entries = []
    for tag, kind, count, value in sorted(tags):
        # Up to 8 bytes stand in the entry itself.
        if len(value) > 8:
            position = file.tell()
            file.write(value)
            value = struct.pack("<Q", position)
        entries.append(struct.pack("<HHQ", tag, kind, count) + value.ljust(8, b"\0"))
    directory = file.tell()
    file.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<Q", directory))
    file.seek(end)
    return end - 8


def _layout(side: int, rng: np.random.Generator) -> np.ndarray:
    """Number of the block at each place of a level, row by row; 0 is glass."""
    count = -(-side // BLOCK_PX)
    y, x = np.mgrid[:count, :count] + 0.5
    inside = (x - count / 2) ** 2 + (y - count / 2) ** 2 < TISSUE_SHARE / np.pi * count**2
    return np.where(inside, rng.integers(1, TISSUE_BLOCKS + 1, inside.shape), 0).ravel()


def _glass(rng: np.random.Generator) -> UInt8[np.ndarray, "256 256 3"]:
    return (243 + rng.normal(0, 1.2, (BLOCK_PX, BLOCK_PX, 1)).repeat(3, 2)).astype(np.uint8)


def _tissue(rng: np.random.Generator) -> UInt8[np.ndarray, "256 256 3"]:
    """Eosin with fibres and haematoxylin nuclei, about as hard to compress as scanned tissue."""
    y, x = np.mgrid[:BLOCK_PX, :BLOCK_PX] / BLOCK_PX
    density = np.zeros((BLOCK_PX, BLOCK_PX, 3))
    fibres = 0.5 + 0.3 * np.sin(
        40 * (x * rng.normal() + y * rng.normal()) + 3 * np.sin(9 * x + rng.uniform(0, 6))
    )
    density += fibres[..., None] * EOSIN
    # Nuclei; beyond two radii their density is next to nothing.
    for _ in range(60):
        cx, cy = rng.random(2)
        radius = rng.uniform(0.012, 0.03)
        rows = _pixels_between(cy - 2 * radius, cy + 2 * radius)
        columns = _pixels_between(cx - 2 * radius, cx + 2 * radius)
        distance = (x[rows, columns] - cx) ** 2 + (y[rows, columns] - cy) ** 2
        profile = np.exp(-((distance / radius**2) ** 2))
        density[rows, columns] += profile[..., None] * HAEMATOXYLIN
    density *= rng.normal(1, 0.12, (BLOCK_PX, BLOCK_PX, 1))
    return (243 * np.exp(-density.clip(0))).astype(np.uint8)


def _pixels_between(start: float, end: float) -> slice:
    """Pixels of a block between two fractions of its side."""
    return slice(int(BLOCK_PX * max(start, 0)), int(BLOCK_PX * max(end, 0)))


def _jpeg(pixels: np.ndarray) -> bytes:
    return bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=80, colorsubsampling="422")
    )


def _jpeg2000(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=35, codecformat="j2k", mct=True))


def _tags(side: int, codec: Codec, text: str) -> list[tuple[int, int, int, bytes]]:
    """Tag, type, count and value of all tags but the tables of blocks."""
    description = text.encode() + b"\0"
    jpeg = codec == "jpeg"
    short = struct.Struct("<H").pack
    tags = [
        (254, LONG, 1, struct.pack("<I", 0)),
        (256, LONG, 1, struct.pack("<I", side)),
        (257, LONG, 1, struct.pack("<I", side)),
        (258, SHORT, 3, struct.pack("<3H", 8, 8, 8)),
        (259, SHORT, 1, short(7 if jpeg else APERIO_RGB_J2K)),
        (262, SHORT, 1, short(6 if jpeg else 2)),
        (270, ASCII, len(description), description),
        (277, SHORT, 1, short(3)),
        (284, SHORT, 1, short(1)),
        (322, SHORT, 1, short(BLOCK_PX)),
        (323, SHORT, 1, short(BLOCK_PX)),
    ]
    if jpeg:
        # Chroma is half as wide as luma, as `_jpeg` writes it.
        tags.append((530, SHORT, 2, struct.pack("<2H", 2, 1)))
    return tags
