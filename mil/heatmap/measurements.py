"""Numbers of each tile, as text: what the QuPath layer and the table share."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mil.heatmap.maps import SlideMaps
from mil.heatmap.scales import scaled

# Six digits are what a float32 holds for certain.
DIGITS = "%.6g"
Columns = dict[str, list[str]]


def measurements_of(maps: SlideMaps) -> Columns:
    """Columns of numbers, a text for each tile; empty where a number is not known."""
    attention = maps.attention
    columns = {
        "attention": _texts(attention),
        "percentile": _texts(scaled(attention, "percentile").round(2), "%g"),
        "relative": _texts(scaled(attention, "relative")),
    }
    if maps.selected is not None:
        columns["selected"] = _texts(maps.selected.round(3), "%g")
    for kind, tile_map in maps.kinds.items():
        if kind != "attention":
            columns[kind] = _texts(tile_map.values)
    return columns


def further_columns(maps: SlideMaps) -> Columns:
    """Evidence for the other columns of the predictions, and attention of each branch."""
    columns = {
        f"{kind}_{column}": _texts(values) for (kind, column), values in maps.by_column.items()
    }
    branches = [] if maps.branches is None else list(maps.branches.T)
    return columns | {
        f"branch_{number}": _texts(values) for number, values in enumerate(branches, 1)
    }


def _texts(values: Float[np.ndarray, " tiles"], digits: str = DIGITS) -> list[str]:
    write: Callable[[float], str] = digits.__mod__
    texts = list(map(write, values.tolist()))
    for number in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[number] = ""
    return texts
