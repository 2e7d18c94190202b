"""Compressed blocks of a level: each is decoded once, whichever thread asks for it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

RgbPixels = UInt8[np.ndarray, "_ _ 3"]

# Larger blocks are refused: each is decoded whole, and a slide may take only so much
# memory.
LARGEST_BLOCK_BYTES = 256 << 20
# What the remembered message of a failure counts for in the cache.
FAILURE_BYTES = 2 << 10


class BlockError(Exception):
    """A block cannot be read or decoded, twice."""


@runtime_checkable
class Blocks(Protocol):
    """The grid of blocks that one level is stored in.

    The last column and row may hang over the level's edge.
    """

    width_px: int
    height_px: int

    def read(self, column: int, row: int) -> RgbPixels:
        """Decode one block; at least its part inside the level.

        Raises:
            BlockError: the block cannot be read or decoded.
        """
        ...


class BlockCache:
    """Decoded blocks, safe to share between threads.

    A block is dropped after its last expected use; where room is short, the least
    recently used goes first. Two threads that need the same block decode it once: the
    second waits for the first. A block that cannot be decoded is remembered by its
    message: the exception itself would keep alive everything its frames refer to.

    Args:
        max_bytes: room for decoded blocks, bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._blocks: OrderedDict[Hashable, Future[RgbPixels | str]] = OrderedDict()
        self._uses: dict[Hashable, int] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def expect(self, uses: Mapping[Hashable, int]) -> None:
        """Announce how often each block will be asked for from now on.

        Blocks that are not announced are kept until room is short.
        """
        with self._lock:
            for key, count in uses.items():
                self._uses[key] = self._uses.get(key, 0) + count

    def get(self, key: Hashable, decode: Callable[[], RgbPixels]) -> RgbPixels:
        """A block, from the cache or decoded now.

        Args:
            key: identity of the block.
            decode: function that decodes the block, called at most once.

        Raises:
            BlockError: the block cannot be decoded, now or at an earlier attempt.
        """
        with self._lock:
            future = self._blocks.get(key)
            if future is not None:
                self._blocks.move_to_end(key)
            else:
                pending = self._blocks[key] = Future()
        if future is None:
            future = pending
            self._decode(key, decode, pending)
        outcome = future.result()
        self._count_use(key)
        if isinstance(outcome, str):
            raise BlockError(outcome)
        return outcome

    def _count_use(self, key: Hashable) -> None:
        """Drop a block after its last expected use: its memory is the warmest for the next."""
        with self._lock:
            left = self._uses.get(key)
            if left is None:
                return
            if left > 1:
                self._uses[key] = left - 1
                return
            del self._uses[key]
            future = self._blocks.get(key)
            # Else it was dropped for want of room, and another thread decodes it again.
            if future is not None and future.done():
                del self._blocks[key]
                self._bytes -= _size_bytes(future.result())

    def _decode(
        self,
        key: Hashable,
        decode: Callable[[], RgbPixels],
        pending: Future[RgbPixels | str],
    ) -> None:
        outcome: RgbPixels | str
        try:
            outcome = decode()
            # Readers may be handed the block itself instead of a copy.
            outcome.flags.writeable = False
        except BlockError as error:
            outcome = str(error)
        except BaseException as error:  # noqa: BLE001  threads that wait for it must hear
            with self._lock:
                self._blocks.pop(key, None)
            pending.set_exception(error)
            return
        with self._lock:
            pending.set_result(outcome)
            self._bytes += _size_bytes(outcome)
            # Blocks that are being decoded just now have no size yet and stay.
            while self._bytes > self.max_bytes:
                key = next((k for k, future in self._blocks.items() if future.done()), None)
                if key is None:
                    return
                self._bytes -= _size_bytes(self._blocks.pop(key).result())


def _size_bytes(outcome: RgbPixels | str) -> int:
    return FAILURE_BYTES if isinstance(outcome, str) else outcome.nbytes
