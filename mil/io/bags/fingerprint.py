"""A digest that distinguishes a bag's features from others' without reading all of them."""

from hashlib import blake2b
from pathlib import Path

from mil.io.bags.file import FORMAT, VERSION
from mil.io.h5 import reading

# Features hashed at either end of a bag, bytes.
END_BYTES = 256 << 10


def features_digest(path: Path, end_bytes: int | None = END_BYTES) -> str:
    """Digest of the shape of a bag's features and of their first and last rows.

    Args:
        path: the bag's file.
        end_bytes: bytes read at either end; None: all features, so that equal digests
            mean equal features.

    Raises:
        FormatError: the file is no bag.
    """
    with reading(path, FORMAT, VERSION) as file:
        features = file["features"]
        digest = blake2b(f"{features.shape} {features.dtype}".encode(), digest_size=16)
        count = len(features)
        # At least one byte, for a table without columns.
        row_bytes = max(features.dtype.itemsize * features.shape[1], 1)
        rows = count if end_bytes is None else min(-(-end_bytes // row_bytes), count)
        digest.update(features[:rows].tobytes())
        digest.update(features[max(rows, count - rows) :].tobytes())
        return digest.hexdigest()
