"""Matrices of MATLAB 5 files, read here: scipy's reader can be made to crash by a damaged file.

The layout is in MathWorks' "MAT-File Format": a header of 128 bytes, then elements,
each a tag (type, bytes) and data.
"""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from mil.errors import FormatError

HEADER = 128
MATRIX = 14
COMPRESSED = 15
NUMBERS = {
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
NUMERIC_CLASSES = range(6, 16)  # double to uint64; a logical one is a uint8
COMPLEX = 0x0800
MOST_BYTES = 2**28  # once decompressed


class _BrokenError(Exception):
    """What is wrong with a file, without its name."""


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_matrix(path: Path, name: str) -> Shaped[np.ndarray, "rows columns"]:
    """Read one matrix of real numbers, in the type it is stored in, which may be narrower than its class.

    Raises:
        FormatError: the file is missing, damaged, of another version, or has no such
            matrix.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    try:
        return _matrix(memoryview(raw), name)
    except (_BrokenError, zlib.error) as error:
        raise FormatError(
            f"{path}: not a MATLAB 5 file with what is wanted ({error}); get it again"
        ) from None


def _matrix(raw: memoryview, name: str) -> Shaped[np.ndarray, "rows columns"]:
    order = {b"IM": "<", b"MI": ">"}.get(bytes(raw[126:HEADER]))
    if order is None:
        raise _BrokenError("no such header")
    for element in _elements(raw[HEADER:], order):
        for inner in (
            _elements(_inflated(element.data), order) if element.kind == COMPRESSED else [element]
        ):
            if inner.kind == MATRIX:
                flags, shape, named, *parts = _elements_of_matrix(inner.data, order)
                if bytes(named.data) == name.encode():
                    return _values(flags, shape, parts, order)
    raise _BrokenError(f"no matrix {name}")


def _elements_of_matrix(data: memoryview, order: str) -> list[_Element]:
    found = list(_elements(data, order))
    if [element.kind for element in found[:3]] != [6, 5, 1]:  # flags, dimensions, name
        raise _BrokenError("a matrix without flags, dimensions or name")
    return found


def _values(
    flags: _Element, dimensions: _Element, parts: list[_Element], order: str
) -> Shaped[np.ndarray, "rows columns"]:
    (said,), shape = _numbers(flags, order)[:1], _numbers(dimensions, order)
    if (
        int(said) & 0xFF not in NUMERIC_CLASSES
        or int(said) & COMPLEX
        or len(shape) != 2
        or len(parts) != 1
    ):
        raise _BrokenError("not a matrix of real numbers in two dimensions")
    values = _numbers(parts[0], order)
    rows, columns = (int(side) for side in shape)
    if min(rows, columns) < 0 or rows * columns != len(values):
        raise _BrokenError(f"{len(values)} values for {rows} x {columns}")
    return values.reshape(rows, columns, order="F")


def _numbers(element: _Element, order: str) -> Shaped[np.ndarray, " values"]:
    dtype = np.dtype(order + NUMBERS.get(element.kind, "V1"))
    if dtype.kind == "V" or len(element.data) % dtype.itemsize or not len(element.data):
        raise _BrokenError(f"an element of type {element.kind} where numbers should be")
    return np.frombuffer(element.data, dtype).astype(dtype.newbyteorder("="))


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """The elements laid end to end in some data; all but compressed ones end on a multiple of 8 bytes."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise _BrokenError("cut short")
        kind, size = (int(word) for word in np.frombuffer(data[at : at + 8], f"{order}u4"))
        small = kind >> 16  # up to 4 bytes stand in the tag itself, behind their count
        first, size, kind = (at + 4, small, kind & 0xFFFF) if small else (at + 8, size, kind)
        if first + size > len(data) or small > 4:
            raise _BrokenError("cut short")
        yield _Element(kind, data[first : first + size])
        at = first + size if kind == COMPRESSED else at + 8 * math.ceil((first + size - at) / 8)


def _inflated(data: memoryview) -> memoryview:
    inflate = zlib.decompressobj()
    whole = inflate.decompress(data, MOST_BYTES)
    if not inflate.eof:
        raise _BrokenError(f"cut short, or more than {MOST_BYTES} bytes")
    return memoryview(whole)
