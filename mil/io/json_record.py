"""Record of a file of one slide: JSON in the HDF5 dataset `record`, written by a stage."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
from pydantic import ValidationError

from mil.errors import FormatError
from mil.io.checksums import check_arrays
from mil.io.h5 import dataset_of

Record = TypeVar("Record")


def read_json_record(
    file: h5py.File,
    path: Path,
    parse: Callable[[bytes], Record],
    *,
    max_bytes: int,
    damaged: Callable[[Path, str], FormatError],
) -> Record:
    """Read the record of an open file, and compare it with its checksum.

    Args:
        file: The open file.
        path: Its path, for messages.
        parse: The record of a JSON text; raises pydantic's ValidationError.
        max_bytes: Largest length of the text.
        damaged: Error of a path and a reason, which says what to do.

    Raises:
        FormatError: The record is missing, damaged, too long, or not of that type.
    """
    data = dataset_of(file, "record", path)
    if data.dtype != np.uint8 or data.ndim != 1 or data.nbytes > max_bytes:
        raise damaged(path, "its record is not text of a sensible length")
    text = np.asarray(data)
    check_arrays(file, {"record": text}, path)
    try:
        return parse(text.tobytes())
    except ValidationError as error:
        fault = error.errors()[0]
        location = "".join(f"{place}: " for place in fault["loc"])
        raise damaged(path, f"its record cannot be used: {location}{fault['msg']}") from None
