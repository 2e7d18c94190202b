"""Whether an output is as it was written: by its end mark, and by the checksums of its content."""

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from mil.io.checksums import check_arrays, read_checksums
from mil.io.probe import check_opens
from mil.io.provenance import PICTURES


def is_whole(path: Path, *, content: bool = True) -> bool:
    """Whether a file is all there and unchanged.

    Args:
        path: HDF5 file of ours, PNG or JPEG.
        content: Whether to read all of it, not its end alone.
    """
    try:
        if path.suffix in PICTURES:
            return _is_whole_picture(path)
        check_opens(path)
        with h5py.File(path, "r", locking=False) as file:
            if content:
                # Files of older versions have no checksums.
                names = read_checksums(file, path)
                check_arrays(file, {name: np.asarray(file[name]) for name in names}, path)
            return bool(file.attrs.get("complete", False))
    # Whatever a damaged file provokes. A `FormatError` is a ValueError.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, SyntaxError):
        return False


def _is_whole_picture(path: Path) -> bool:
    with Image.open(path, formats=PICTURES[path.suffix]) as image:
        if image.format == "PNG":
            # The checksum of each chunk, up to the last.
            image.verify()
        else:
            image.load()
    return True
