"""HDF5 files are opened in a guarded process first: on damaged ones HDF5 may loop for ever.

A heap of strings whose sizes were damaged cannot be bounded from inside. A fork takes some
milliseconds, so files that are read together are probed together.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from mil.errors import FormatError
from mil.io.guard import run_guarded

# Files that one process opens, and the time of the processor for them: some milliseconds
# for each.
FILES_AT_ONCE = 64
SECONDS = 1.0
SECONDS_PER_FILE = 0.02
# Our files hold some twenty objects; a file of ACMIL holds three for each slide.
MAX_OBJECTS = 10_000
# An attribute is at most this long where it lies in the header of its object.
LARGEST_PLAIN_BYTES = 1 << 16

# Fault of each file that was probed; empty: it has none. A file that is replaced is probed
# again.
_faults: dict[tuple[str, int, int], str] = {}


def probe(paths: Sequence[Path]) -> None:
    """Open files together in a guarded process, so that `check_opens` need not.

    Args:
        paths: HDF5 files; what is missing, or is no HDF5 file, is passed over.
    """
    unknown = [path for path in dict.fromkeys(paths) if _key(path) not in _faults]
    for first in range(0, len(unknown), FILES_AT_ONCE):
        group = [path for path in unknown[first : first + FILES_AT_ONCE] if path.is_file()]
        fault = _fault(group) if group else ""
        for path in group:
            # Where a group has a fault, one of its files is to blame.
            _faults[_key(path)] = _fault([path]) if fault and len(group) > 1 else fault


def check_opens(path: Path) -> None:
    """Refuse a file on which HDF5 hangs, crashes or asks for all memory.

    Raises:
        FormatError: it does; what a file holds is checked by its reader.
    """
    probe([path])
    fault = _faults.get(_key(path))
    if fault:
        raise FormatError(fault)


def trust(path: Path) -> None:
    """Leave out the probe of a file that this process wrote."""
    _faults[_key(path)] = ""


def _key(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        # The reader says so.
        return str(path), 0, 0
    # Time of the inode: a copy may keep the time and size of what it replaces.
    return str(path), stat.st_ctime_ns, stat.st_size


def _fault(paths: Sequence[Path]) -> str:
    seconds = SECONDS + SECONDS_PER_FILE * (len(paths) - 1)
    try:
        run_guarded(_visit_all, paths, path=paths[0], seconds=seconds)
    except FormatError as error:
        return f"{error}; get it again from its source, or make it again"
    return ""


def _visit_all(paths: Sequence[Path]) -> None:
    for path in paths:
        with _ignored_errors(), h5py.File(path, "r", locking=False) as file:
            for item in islice(_objects(h5g.open(file.id, b"/")), MAX_OBJECTS):
                for index in range(h5a.get_num_attrs(item)):
                    with _ignored_errors():
                        _read_attribute(item, index)


# By the functions of HDF5 itself: h5py's own objects take twice the time, for each of the
# hundred attributes of a file.
def _read_attribute(item: h5g.GroupID | h5d.DatasetID | h5t.TypeID, index: int) -> None:
    attribute = h5a.open(item, index=index)
    kind = attribute.get_type()
    is_plain = kind.get_class() in (h5t.INTEGER, h5t.FLOAT) or _is_fixed_text(kind)
    # Such values lie in the object itself; no heap is read.
    if is_plain and attribute.get_storage_size() <= LARGEST_PLAIN_BYTES:
        return
    values = np.empty(attribute.shape, attribute.dtype)
    attribute.read(values)


def _is_fixed_text(kind: h5t.TypeID) -> bool:
    return isinstance(kind, h5t.TypeStringID) and not kind.is_variable_str()


@contextmanager
def _ignored_errors() -> Iterator[None]:
    """Errors are the reader's matter, who has words for them; memory is not."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  a damaged file fails in as many ways as it has bytes
        return


def _objects(
    group: h5g.GroupID, depth: int = 2
) -> Iterator[h5g.GroupID | h5d.DatasetID | h5t.TypeID]:
    yield group
    for name in group:
        # Links could lead out of the file.
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            continue
        item = h5o.open(group, name)
        if isinstance(item, h5g.GroupID) and depth:
            yield from _objects(item, depth - 1)
        else:
            yield item
