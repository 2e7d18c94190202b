"""What differs between the blocks of a level is not proven by a sample of them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader
from mil.io.slides.tiff import TiffBlocks
from tests.io.slides.test_decoders import cut, drawn, whole, write_ome
from tests.messages import one_line

TILE = 64
PICTURE = drawn((256, 192))


def rgb_jpeg(block: np.ndarray, **more) -> bytes:
    return imagecodecs.jpeg8_encode(block, 90, colorspace="rgb", outcolorspace="ycbcr", **more)


def pillow_jpeg(image: Image.Image, **more) -> bytes:
    out = BytesIO()
    image.save(out, "jpeg", quality=60, subsampling=0, **more)
    return out.getvalue()


# Tiles that are shorter than those that are probed, and another kind.
ODD_TILES: dict[str, Callable[[np.ndarray], bytes]] = {
    "subsampling": lambda block: rgb_jpeg(block, subsampling=(2, 2)),
    "tables": lambda block: imagecodecs.jpeg8_encode(
        block, 30, colorspace="rgb", outcolorspace="ycbcr", subsampling=(1, 1), optimize=True
    ),
    "colours": lambda block: imagecodecs.jpeg8_encode(
        block // 16 * 16, 40, colorspace="rgb", outcolorspace="rgb"
    ),
    "progressive": lambda block: pillow_jpeg(Image.fromarray(block), progressive=True),
    "grey": lambda block: pillow_jpeg(Image.fromarray(block).convert("L")),
    "CMYK": lambda block: pillow_jpeg(Image.fromarray(block).convert("CMYK")),
}


@pytest.mark.parametrize("kind", ODD_TILES)
def test_a_tile_of_another_kind_is_read_as_openslide_reads_it(tmp_path, kind):
    tiles = list(cut(PICTURE, TILE, lambda block: rgb_jpeg(block, subsampling=(1, 1))))
    odd = list(cut(PICTURE, TILE, ODD_TILES[kind]))
    tiles[2], tiles[7] = odd[2], odd[7]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(
            iter(tiles), shape=PICTURE.shape, dtype=np.uint8, tile=(TILE, TILE),
            photometric="ycbcr", compression="jpeg", metadata=None,
        )  # fmt: skip
    with (
        SlideReader(tmp_path / "a.tif") as ours,
        SlideReader(tmp_path / "a.tif", "openslide") as of,
    ):
        assert isinstance(ours.blocks(0), TiffBlocks)
        for index in range(12):
            box = (index % 4 * 64.0, index // 4 * 64.0), (64.0, 64.0), (64, 64)
            pixels = []
            for reader in (of, ours):
                try:
                    pixels.append(reader.read_box(*box).astype(int))
                except UnreadableSlideError:
                    # Neither may give what the other refuses.
                    pixels.append(np.full((64, 64, 3), -1))
            # OpenSlide's blocks are four tiles, and lost as one.
            if index in (2, 7) or pixels[0].min() >= 0:
                assert np.abs(pixels[0] - pixels[1]).max() <= 1


def masked(shown: int = 255) -> np.ndarray:
    """Opaque but for its left third, of which nothing is long enough to be probed."""
    opacity = np.full((*PICTURE.shape[:2], 1), 255, np.uint8)
    opacity[:, :85] = 255 - shown
    colours = PICTURE.copy()
    colours[:, :85] = 0
    return np.concatenate([colours, opacity], axis=2)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_what_is_transparent_is_white(tmp_path, extra):
    options = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "zlib"}
    rgba = {"extrasamples": [extra]}
    tifffile.imwrite(tmp_path / "a.tif", masked(), metadata=None, **options, **rgba)
    write_ome(tmp_path / "a.ome.tif", masked(), 1, tile=(TILE, TILE), **rgba)
    expected = PICTURE.copy()
    expected[:, :85] = 255
    for name in ("a.tif", "a.ome.tif"):
        with SlideReader(tmp_path / name) as reader:
            np.testing.assert_array_equal(whole(reader, 0), expected)


def test_half_transparent_black_is_grey(tmp_path):
    write_ome(tmp_path / "a.ome.tif", masked(55), 1, tile=(TILE, TILE), extrasamples=["unassalpha"])
    with SlideReader(tmp_path / "a.ome.tif") as reader:
        assert (whole(reader, 0)[:, :85] == 55).all()


def palette() -> np.ndarray:
    """Grey but for the first 16 colours."""
    colours = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    colours[:, :16] = np.array([[65535], [0], [0]])
    return colours


NOT_PLAIN = {
    "palette": {"photometric": "palette", "colormap": palette()},
    "inverted grey": {"photometric": "miniswhite"},
    "grey with opacity": {"photometric": "minisblack", "extrasamples": ["unassalpha"]},
}


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_pages_whose_blocks_may_hide_a_difference_are_left_to_openslide(tmp_path, kind):
    grey = 40 + PICTURE[..., 0] // 2
    # Shorter than the probed ones: its colours show there alone.
    grey[:64, :64] = 3
    if "opacity" in kind:
        grey = np.stack([grey, np.where(grey == 3, 0, 255).astype(np.uint8)], axis=2)
    tifffile.imwrite(
        tmp_path / "a.tif", grey, tile=(TILE, TILE), compression="zlib", metadata=None,
        **NOT_PLAIN[kind],
    )  # fmt: skip
    with (
        SlideReader(tmp_path / "a.tif") as ours,
        SlideReader(tmp_path / "a.tif", "openslide") as of,
    ):
        assert not isinstance(ours.blocks(0), TiffBlocks)
        np.testing.assert_array_equal(whole(ours, 0), whole(of, 0))


def test_ome_of_other_colours_is_refused(tmp_path):
    cmyk = drawn((128, 128), channels=4)
    write_ome(tmp_path / "a.ome.tif", cmyk, 1, tile=(TILE, TILE), photometric="separated")
    with one_line(UnreadableSlideError, match="colours are SEPARATED; only 8-bit RGB"):
        SlideReader(tmp_path / "a.ome.tif")


def turned(path: Path, orientation: int, **more) -> Path:
    tag = (274, 3, 1, orientation, True)
    options = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None, **more}
    tifffile.imwrite(path, PICTURE, extratags=[tag], **options)
    return path


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
def test_a_turned_slide_is_read_as_it_is_stored(tmp_path, orientation, compression):
    path = turned(tmp_path / "a.tif", orientation, compression=compression)
    with SlideReader(path) as reader:
        assert reader.size_px == (256, 192)
        off = np.abs(whole(reader, 0) - PICTURE)
        assert off.mean() < (12 if compression == "jpeg" else 1e-9)
        assert reader.remarks[0].startswith(f"its TIFF orientation is {orientation}: pixels are")


def test_a_turned_slide_that_only_openslide_reads_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tag = (274, 3, 1, 3, True)
    tifffile.imwrite(
        path, masked(), tile=(TILE, TILE), photometric="rgb", extrasamples=["unassalpha"],
        metadata=None, extratags=[tag],
    )  # fmt: skip
    for reading in ("auto", "openslide"):
        with one_line(UnreadableSlideError, match="orientation is 3, which OpenSlide applies"):
            SlideReader(path, reading)


def test_decoders_that_disagree_are_told(tmp_path):
    tiles = cut(
        PICTURE, TILE,
        lambda block: imagecodecs.jpeg8_encode(block, 90, colorspace="rgb", outcolorspace="rgb"),
    )  # fmt: skip
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(
            tiles, shape=PICTURE.shape, dtype=np.uint8, tile=(TILE, TILE), photometric="ycbcr",
            compression="jpeg", metadata=None,
        )  # fmt: skip
    with SlideReader(tmp_path / "a.tif") as reader:
        assert not isinstance(reader.blocks(0), TiffBlocks)
        assert reader.remarks == [
            "level 0 gives other pixels when it is decoded without OpenSlide; OpenSlide's are used"
        ]
