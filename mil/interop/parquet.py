"""Tables in Apache Parquet with a row for each slide: features of its tiles, and its label."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mil.errors import ConfigError, FormatError, brief
from mil.interop.untrusted import check_feature_shape, finite_rows
from mil.io.guard import run_guarded

# Reading takes the row that is read, in its own and in our form.
GUARD_GIGABYTES = 4.0
GUARD_BYTES_PER_SECOND = 10e6
GUARD_SECONDS = 20.0


class ParquetRow(NamedTuple):
    """Features and label of one slide."""

    features: Float[np.ndarray, "tiles dim"]
    label: int


def rows(path: Path, first_feature: int, location: str) -> Iterator[ParquetRow]:
    """Rows of a table, in their order.

    The table is read once in a process with limits, whose end by a damaged file is a
    message, before it is read here.

    Args:
        path: The table, with the columns `features` and `label`.
        first_feature: Number of columns before the features in each tile's row.
        location: Name for messages.

    Raises:
        ConfigError: pyarrow is not installed.
        FormatError: The table is another one, or damaged.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{location}: is in Apache Parquet, which needs pyarrow; pip install 'mil[parquet]'"
        ) from None
    size = path.stat().st_size
    run_guarded(
        _count,
        path,
        first_feature,
        location,
        path=Path(location),
        seconds=GUARD_SECONDS + size / GUARD_BYTES_PER_SECOND,
        gigabytes=GUARD_GIGABYTES,
    )
    yield from _rows(path, first_feature, location)


def _count(path: Path, first_feature: int, location: str) -> int:
    return sum(1 for _ in _rows(path, first_feature, location))


def _rows(path: Path, first_feature: int, location: str) -> Iterator[ParquetRow]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as table:
            missing = {"features", "label"} - set(table.schema_arrow.names)
            if missing:
                raise FormatError(f"{location}: has no column {sorted(missing)[0]!r}")
            kind = table.schema_arrow.field("features").type
            if not (_is_list(kind) and _is_list(kind.value_type)):
                raise FormatError(
                    f"{location}: the column features holds {str(kind)[:50]}, not a list of lists "
                    "of numbers, one a tile"
                )
            for batch in table.iter_batches(batch_size=1, columns=["features", "label"]):
                yield _row(batch, first_feature, location)
    except (pyarrow.ArrowException, OSError) as error:
        reason = brief(error)
        raise FormatError(f"{location}: not a Parquet file, or damaged ({reason})") from None


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind))


def _row(batch: Any, first_feature: int, location: str) -> ParquetRow:
    label = batch.column("label")[0].as_py()
    if type(label) is not int:
        raise FormatError(f"{location}: label {label!r} is no whole number")
    tiles = batch.column("features")[0].values
    if tiles is None:
        raise FormatError(f"{location}: a row without features")
    widths = np.diff(np.asarray(tiles.offsets))
    if len(tiles) == 0 or (widths != widths[0]).any():
        raise FormatError(f"{location}: tiles without features, or of different numbers of them")
    # `flatten` respects the slice that a list array may be of a larger one.
    table = np.asarray(tiles.flatten()).reshape(len(tiles), int(widths[0]))
    features = table[:, first_feature:]
    check_feature_shape(features.shape, features.dtype.kind, location)
    return ParquetRow(finite_rows(np.ascontiguousarray(features), location), label)
