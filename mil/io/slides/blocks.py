"""Compressed blocks of a level: each is decoded once, whoever asks for it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Pixels = UInt8[np.ndarray, "_ _ 3"]

# What is stored in larger pieces is refused: each is decoded whole, and a slide may
# take only so much memory.
LARGEST_BLOCK_BYTES = 256 << 20
# What the memory of a failure counts for.
FAILURE_BYTES = 2 << 10


class BlockError(Exception):
    """A block cannot be read or decoded, twice."""


@runtime_checkable
class Blocks(Protocol):
    """The grid of blocks that one level is stored in; the last column and row may hang over the level's edge."""

    width_px: int
    height_px: int

    def read(self, column: int, row: int) -> Pixels:
        """Decode one block; at least its part inside the level.

        Raises:
            BlockError: it cannot be.
        """
        ...


class BlockCache:
    """Decoded blocks, dropped after their last expected use, else least recently used first; safe on threads.

    Two threads that want the same block decode it once: the second waits for the first.
    A block that cannot be decoded is remembered too, by its message: the error itself
    would hold on to all that its frames do.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Hashable, Future[Pixels | str]] = OrderedDict()
        self._uses: dict[Hashable, int] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def expect(self, uses: Mapping[Hashable, int]) -> None:
        """How often each block will be asked for from now on; of others nothing is known."""
        with self._lock:
            for key, count in uses.items():
                self._uses[key] = self._uses.get(key, 0) + count

    def get(self, key: Hashable, decode: Callable[[], Pixels]) -> Pixels:
        """A block, from the cache or decoded now.

        Raises:
            BlockError: it cannot be decoded, now or when somebody tried before.
        """
        with self._lock:
            future = self._held.get(key)
            if future is not None:
                self._held.move_to_end(key)
            else:
                mine = self._held[key] = Future()
        if future is None:
            future = mine
            self._decode(key, decode, mine)
        found = future.result()
        self._used(key)
        if isinstance(found, str):
            raise BlockError(found)
        return found

    def _used(self, key: Hashable) -> None:
        """Drop a block that nobody will ask for again: its memory is the warmest for the next."""
        with self._lock:
            left = self._uses.get(key)
            if left is None:
                return
            if left > 1:
                self._uses[key] = left - 1
                return
            del self._uses[key]
            gone = self._held.get(key)
            if (
                gone is not None and gone.done()
            ):  # else it was dropped, and another is decoding it again
                del self._held[key]
                self._bytes -= _size(gone.result())

    def _decode(
        self, key: Hashable, decode: Callable[[], Pixels], mine: Future[Pixels | str]
    ) -> None:
        found: Pixels | str
        try:
            found = decode()
            found.flags.writeable = False  # who reads may be given the block itself
        except BlockError as error:
            found = str(error)
        except BaseException as error:  # noqa: BLE001  whoever waits for it must hear
            with self._lock:
                self._held.pop(key, None)
            mine.set_exception(error)
            return
        with self._lock:
            mine.set_result(found)
            self._bytes += _size(found)
            # What is being decoded just now has no size yet and stays.
            while self._bytes > self.max_bytes:
                key = next((k for k, future in self._held.items() if future.done()), None)
                if key is None:
                    return
                self._bytes -= _size(self._held.pop(key).result())


def _size(found: Pixels | str) -> int:
    return FAILURE_BYTES if isinstance(found, str) else found.nbytes
