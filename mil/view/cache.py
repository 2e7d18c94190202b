"""Bounded caches that threads share."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values that were asked for last.

    Args:
        most: Sum of the sizes that is kept; the last value is kept whatever its size.
        size: Size of a value; None: each counts 1.
    """

    def __init__(self, most: int, size: Callable[[Value], int] | None = None) -> None:
        self._most = most
        self._size = size or (lambda value: 1)
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Value of a key, made where it is not kept; two threads may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._total += self._size(value)
            while self._total > self._most and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                self._total -= self._size(dropped)
        return value


class Closable(Protocol):
    """An open file."""

    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)


class _Handle(Generic[Opened]):
    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.users = 0


class OpenFiles(Generic[Opened]):
    """Open files, the ones used last; a file is closed when no thread reads it any more.

    Args:
        most: Number of files that stay open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._handles: OrderedDict[Hashable, _Handle[Opened]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, key: Hashable, open_file: Callable[[], Opened]) -> Iterator[Opened]:
        """An open file for the time of the block.

        Args:
            key: Name of the file.
            open_file: Opens it where it is not open; its errors pass through.
        """
        # Opening is under the lock too: two threads must not open the same slide.
        with self._lock:
            if key not in self._handles:
                self._handles[key] = _Handle(open_file())
            handle = self._handles[key]
            self._handles.move_to_end(key)
            handle.users += 1
            self._close_unused()
        try:
            yield handle.opened
        finally:
            with self._lock:
                handle.users -= 1

    def _close_unused(self) -> None:
        unused = [key for key, handle in self._handles.items() if not handle.users]
        for key in unused[: max(0, len(self._handles) - self._most)]:
            self._handles.pop(key).opened.close()

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._handles:
                self._handles.popitem()[1].opened.close()
