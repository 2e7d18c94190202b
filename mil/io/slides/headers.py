"""Headers of compressed blocks: the size that they claim, and the kind of their pixels."""

import struct
from collections.abc import Iterator

import simplejpeg

JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
# SOC and SIZ, with which every JPEG 2000 codestream begins.
J2K_START = b"\xff\x4f\xff\x51"
# Second bytes of markers: of frames (all kinds of SOF), of JFIF and of Adobe's colours.
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
JFIF = 0xE0
ADOBE_COLOURS = 0xEE
START_OF_SCAN = 0xDA
# Of JPEG 2000: sizes of components, coding style, start of the first tile.
J2K_SIZES = 0x51
J2K_STYLE = 0x52
J2K_TILE = 0x90
# A header has about ten segments.
MOST_SEGMENTS = 100

Kind = tuple[bytes, ...]


def claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a JPEG or JPEG 2000; else 0.

    Checked before a decoder allocates memory for them.
    """
    if data.startswith(JPEG_START):
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        return width, height
    start = data[:512].find(J2K_START)
    if start < 0:
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return right - left, bottom - top


def kind_of(data: bytes) -> Kind:
    """Colours and samples that a block's own header states, without its size.

    Blocks of one page may differ in them, in spite of the page's tags: colour transform
    (Adobe, JFIF), subsampling, number of components, precision. Blocks without a header
    are all of one kind.
    """
    if data.startswith(JPEG_START):
        return tuple(_jpeg_parts(data))
    start = data[:512].find(J2K_START)
    return () if start < 0 else tuple(_j2k_parts(data, start))


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    for marker, payload in _segments(data, len(JPEG_START), START_OF_SCAN):
        if marker in FRAMES:
            # Precision, and number, sampling and tables of the components; the size
            # stands between.
            yield bytes([marker]) + payload[:1] + payload[5:]
        elif marker in (JFIF, ADOBE_COLOURS):
            yield bytes([marker]) + payload


def _j2k_parts(data: bytes, start: int) -> Iterator[bytes]:
    for marker, payload in _segments(data, start + 2, J2K_TILE):
        if marker == J2K_SIZES:
            yield payload[34:]
        elif marker == J2K_STYLE:
            yield payload


def _segments(data: bytes, position: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Markers (their second byte) and contents of a header, up to a marker."""
    for _ in range(MOST_SEGMENTS):
        if data[position : position + 1] != b"\xff":
            return
        # Any number of fill bytes may stand before a marker.
        while data[position + 1 : position + 2] == b"\xff":
            position += 1
        if len(data) < position + 4 or data[position + 1] == last:
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield data[position + 1], data[position + 4 : position + 2 + length]
        position += 2 + length
