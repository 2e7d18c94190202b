"""Decoders of the blocks of a TIFF page, without OpenSlide."""

from collections.abc import Callable

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from jaxtyping import UInt8
from PIL import Image

from mil.io.slides.blocks import BlockError, RgbPixels
from mil.io.slides.headers import JPEG_END, JPEG_START
from mil.io.slides.tiff_pages import APERIO_YCBCR, COMPRESSIONS, JPEG, RGB, YCBCR

# Value of TIFF's tag ExtraSamples: opacity that the colours are not yet multiplied with.
UNASSOCIATED_ALPHA = 2
OPAQUE = 255
# An APP14 marker with the colour transform, which TIFF keeps in a tag: 0 for RGB, 1 for
# YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"

BlockDecoder = Callable[[bytes, int], RgbPixels]


def decoder_of(page: tifffile.TiffPage) -> BlockDecoder:
    """Decoder of the blocks of a page; a BlockError for one that is not read."""
    if page.compression not in COMPRESSIONS:
        name = tifffile.COMPRESSION(page.compression).name
        raise BlockError(f"compressed as {name}, which is not read")
    interleaved_rgb = page.samplesperpixel == 3 and page.planarconfig == 1
    if page.compression == JPEG and page.bitspersample == 8 and interleaved_rgb:
        return _jpeg_decoder(page)
    if page.compression == APERIO_YCBCR:
        return _decode_aperio_ycbcr
    return _tifffile_decoder(page)


def _jpeg_decoder(page: tifffile.TiffPage) -> BlockDecoder:
    """Decoder by libjpeg-turbo.

    It is strict, so that damage is an error as it is in OpenSlide, not grey stripes.
    """
    tables = (page.jpegtables or JPEG_START + JPEG_END)[2:-2]
    marker = b""
    if page.photometric in (RGB, YCBCR):
        marker = ADOBE + bytes([page.photometric == YCBCR])
    start = JPEG_START + marker + tables

    def decode(data: bytes, index: int) -> RgbPixels:
        return simplejpeg.decode_jpeg(start + data[2:], colorspace="RGB", strict=True)

    return decode


def _decode_aperio_ycbcr(data: bytes, index: int) -> RgbPixels:
    ycbcr = np.ascontiguousarray(imagecodecs.jpeg2k_decode(data))
    return np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"))


def _tifffile_decoder(page: tifffile.TiffPage) -> BlockDecoder:
    planes = 1 if page.planarconfig == 1 else page.samplesperpixel
    if planes != 1:
        raise BlockError("its colours are stored apart")
    # A fourth sample without a meaning counts as opacity, as libtiff has it.
    unassociated = UNASSOCIATED_ALPHA in page.extrasamples

    def decode(data: bytes, index: int) -> RgbPixels:
        decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        if decoded is None:
            raise BlockError("stored as nothing")
        pixels = decoded[0]
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        return _on_white(pixels, unassociated)

    return decode


def _on_white(pixels: UInt8[np.ndarray, "height width samples"], unassociated: bool) -> RgbPixels:
    """Colours on a white background, where the fourth sample is their opacity."""
    colours = pixels[..., :3]
    if pixels.shape[2] < 4 or pixels[..., 3].min() == OPAQUE:
        return np.ascontiguousarray(colours)
    opacity = pixels[..., 3:4].astype(np.uint32)
    weighted = colours.astype(np.uint32)
    if unassociated:
        weighted = (weighted * opacity + OPAQUE // 2) // OPAQUE
    return np.minimum(weighted + (OPAQUE - opacity), OPAQUE).astype(np.uint8)
