"""Matrices of MATLAB 5 files.

They are read here because scipy's reader can be made to crash by a damaged file. The
layout is in MathWorks' "MAT-File Format": a header of 128 bytes, then elements, each a
tag (type, bytes) and data.
"""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from mil.errors import FormatError

HEADER_BYTES = 128
TAG_BYTES = 8
# Types of elements, as the format numbers them.
ARRAY_FLAGS = 6
DIMENSIONS = 5
NAME = 1
MATRIX = 14
COMPRESSED = 15
# NumPy's types by the format's types of numbers.
DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
# Array classes double to uint64; a logical array is a uint8.
NUMERIC_CLASSES = range(6, 16)
COMPLEX_FLAG = 0x0800
# Largest size of decompressed data: the data sets have some megabytes.
MAX_DECOMPRESSED_BYTES = 2**28


class _BrokenMatlabError(Exception):
    """A fault of a MATLAB file; the message does not name the file."""


class _Element(NamedTuple):
    """Element of a file: its type, as the format numbers it, and its data."""

    kind: int
    data: memoryview


def read_matrix(path: Path, name: str) -> Shaped[np.ndarray, "rows columns"]:
    """Read one matrix of real numbers.

    Its type is the one it is stored in, which may be narrower than its class.

    Args:
        path: the file.
        name: name of the matrix.

    Raises:
        FormatError: the file is missing, damaged, of another version, or has no such
            matrix.
    """
    # Reading from a pipe would wait for ever.
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        return _matrix(memoryview(path.read_bytes()), name)
    except (_BrokenMatlabError, zlib.error) as error:
        raise FormatError(
            f"{path}: not a MATLAB 5 file with a matrix {name} ({error}); get the file again"
        ) from None


def _matrix(raw: memoryview, name: str) -> Shaped[np.ndarray, "rows columns"]:
    # The header ends in two letters, MI, in the byte order of the machine that wrote it.
    order = {b"IM": "<", b"MI": ">"}.get(bytes(raw[HEADER_BYTES - 2 : HEADER_BYTES]))
    if order is None:
        raise _BrokenMatlabError("no such header")
    for element in _uncompressed_elements(raw[HEADER_BYTES:], order):
        if element.kind == MATRIX:
            flags, dimensions, element_name, *parts = _matrix_elements(element.data, order)
            if bytes(element_name.data) == name.encode():
                return _values(flags, dimensions, parts, order)
    raise _BrokenMatlabError(f"no matrix {name}")


def _uncompressed_elements(data: memoryview, order: str) -> Iterator[_Element]:
    for element in _elements(data, order):
        if element.kind == COMPRESSED:
            yield from _elements(_decompressed(element.data), order)
        else:
            yield element


def _matrix_elements(data: memoryview, order: str) -> list[_Element]:
    elements = list(_elements(data, order))
    if [element.kind for element in elements[:3]] != [ARRAY_FLAGS, DIMENSIONS, NAME]:
        raise _BrokenMatlabError("a matrix without flags, dimensions or name")
    return elements


def _values(
    flags: _Element, dimensions: _Element, parts: list[_Element], order: str
) -> Shaped[np.ndarray, "rows columns"]:
    flag_bits = int(_numbers(flags, order)[0])
    shape = _numbers(dimensions, order)
    # The lowest byte of the flags is the class. A complex matrix has a second part.
    is_real = flag_bits & 0xFF in NUMERIC_CLASSES and not flag_bits & COMPLEX_FLAG
    if not is_real or len(shape) != 2 or len(parts) != 1:
        raise _BrokenMatlabError("not a matrix of real numbers in two dimensions")
    values = _numbers(parts[0], order)
    rows, columns = (int(side) for side in shape)
    if min(rows, columns) < 0 or rows * columns != len(values):
        raise _BrokenMatlabError(f"{len(values)} values for {rows} x {columns}")
    # MATLAB stores column after column.
    return values.reshape(rows, columns, order="F")


def _numbers(element: _Element, order: str) -> Shaped[np.ndarray, " values"]:
    dtype = np.dtype(order + DTYPES.get(element.kind, "V1"))
    if dtype.kind == "V" or len(element.data) % dtype.itemsize or not len(element.data):
        raise _BrokenMatlabError(f"an element of type {element.kind} where numbers should be")
    return np.frombuffer(element.data, dtype).astype(dtype.newbyteorder("="))


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """The elements that lie end to end in some data."""
    position = 0
    while position < len(data):
        if len(data) - position < TAG_BYTES:
            raise _BrokenMatlabError("cut short")
        tag = data[position : position + TAG_BYTES]
        kind, size = (int(word) for word in np.frombuffer(tag, f"{order}u4"))
        start = position + TAG_BYTES
        small_size = kind >> 16
        if small_size:
            # Up to 4 bytes stand in the tag itself, after type and size of 2 bytes each.
            kind &= 0xFFFF
            size = small_size
            start = position + TAG_BYTES // 2
        end = start + size
        if end > len(data) or small_size > 4:
            raise _BrokenMatlabError("cut short")
        yield _Element(kind, data[start:end])
        # All elements but compressed ones are padded to a multiple of 8 bytes.
        padded = position + 8 * math.ceil((end - position) / 8)
        position = end if kind == COMPRESSED else padded


def _decompressed(data: memoryview) -> memoryview:
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, MAX_DECOMPRESSED_BYTES)
    if not decompressor.eof:
        raise _BrokenMatlabError(f"cut short, or more than {MAX_DECOMPRESSED_BYTES} bytes")
    return memoryview(content)
