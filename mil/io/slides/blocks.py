"""Compressed blocks of a level: each is decoded once, whoever asks for it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Pixels = UInt8[np.ndarray, "_ _ 3"]


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
    """Decoded blocks, least recently used dropped first; safe on threads.

    Two threads that want the same block decode it once: the second waits for the first. A block that cannot be
    decoded is remembered too.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Hashable, Future[Pixels]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], Pixels]) -> Pixels:
        """A block, from the cache or decoded now."""
        with self._lock:
            future = self._held.get(key)
            if future is not None:
                self._held.move_to_end(key)
            else:
                mine = self._held[key] = Future()
        if future is not None:
            return future.result()
        try:
            block = decode()
        except BlockError as error:
            mine.set_exception(error)
            raise
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                self._held.pop(key, None)
            raise
        mine.set_result(block)
        self._keep(block.nbytes)
        return block

    def _keep(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            # What is being decoded just now has no size yet and stays.
            while self._bytes > self.max_bytes:
                key = next((k for k, future in self._held.items() if future.done()), None)
                if key is None:
                    return
                gone = self._held.pop(key)
                if gone.exception() is None:
                    self._bytes -= gone.result().nbytes
