"""Words that several messages share."""

from collections.abc import Sequence

SHOWN = 3  # names of a list that are printed
COSTS = {
    "coords": "coordinates: no heatmap, no neighbours in space for graph heads, no export but CLAM's",
    "side_level0_px": "side of a tile: no heatmap; give --side-level0-px, or CLAM's --patches DIR",
    "mpp_level0": "pixel size: no scale bar, no export to STAMP; give --mpp, --mpp-table or --slides-dir",
}


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
