"""Mutations that know nothing of a format: bits, slices and integers."""

import struct
from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[bytes, Random], bytes]

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)
INTERESTING += (0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)


def flip(data: bytes, random: Random) -> bytes:
    """One to eight bits turned."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(data: bytes, random: Random) -> bytes:
    """The end cut off."""
    return data[: random.randrange(len(data))]


def insert(data: bytes, random: Random) -> bytes:
    """Some bytes between others, all alike or random."""
    place = random.randrange(len(data) + 1)
    size = random.choice((1, 1, 2, 4, 8, 64, 1024))
    new = random.randbytes(size) if random.random() < 0.5 else random.randbytes(1) * size
    return data[:place] + new + data[place:]


def remove(data: bytes, random: Random) -> bytes:
    """A slice left out."""
    start, end = _slice(data, random)
    return data[:start] + data[end:]


def repeat(data: bytes, random: Random) -> bytes:
    """A slice many times over."""
    start, end = _slice(data, random)
    times = random.choice((2, 2, 3, 10, 100))
    return data[:start] + data[start:end] * times + data[end:]


def move(data: bytes, random: Random) -> bytes:
    """A slice written over another place."""
    start, end = _slice(data, random)
    place = random.randrange(len(data))
    return (data[:place] + data[start:end] + data[place + end - start :])[: len(data)]


def zero(data: bytes, random: Random) -> bytes:
    """A slice of zeros, or of ones, as a disk leaves it."""
    start, end = _slice(data, random)
    return data[:start] + random.choice((b"\0", b"\xff")) * (end - start) + data[end:]


def integer(data: bytes, random: Random) -> bytes:
    """An integer of 1 to 8 bytes that is an extreme, or one off, of either byte order."""
    return integer_at(data, random.randrange(len(data)), random)


def integer_at(data: bytes, place: int, random: Random) -> bytes:
    """An integer at a place that is an extreme, or one off, of either byte order."""
    size = random.choice((1, 2, 4, 4, 8))
    order = random.choice("<>")
    layout = order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    if random.random() < 0.3 and place + size <= len(data):
        old = struct.unpack_from(layout, data, place)[0]
        value = old + random.choice((-1, 1, 7, -8, 256))
    else:
        value = random.choice(INTERESTING)
    new = struct.pack(layout, value % (1 << 8 * size))
    return data[:place] + new + data[place + size :]


def near(marks: Sequence[bytes]) -> Mutation:
    """A mutation of integers within 64 bytes after one of the marks of a format."""

    def mutate(data: bytes, random: Random) -> bytes:
        places = [place for mark in marks for place in _find_all(data, mark)]
        if not places:
            return integer(data, random)
        place = random.choice(places) + random.randrange(64)
        return integer_at(data, min(place, len(data) - 1), random)

    return mutate


def splice(data: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _slice(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data))
    return start, min(len(data), start + random.choice((1, 2, 4, 8, 16, 64, 256, 4096)))


def _find_all(data: bytes, mark: bytes) -> list[int]:
    places = []
    place = data.find(mark)
    while place >= 0:
        places.append(place)
        place = data.find(mark, place + 1)
    return places


BYTEWISE: tuple[Mutation, ...] = (flip, truncate, insert, remove, repeat, move, zero, integer)
HDF5_MARKS = (b"GCOL", b"TREE", b"SNOD", b"HEAP", b"OHDR", b"OCHK", b"FRHP", b"FADB", b"BTHD")
ZIP_MARKS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")
