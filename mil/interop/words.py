"""Words that several messages share."""

COSTS = {
    "coords": "coordinates: no heatmap, no neighbours in space for graph heads, no export but CLAM's",
    "side_level0_px": "side of a tile: no heatmap; give --side-level0-px, or CLAM's --patches DIR",
    "mpp_level0": "pixel size: no scale bar, no export to STAMP; give --mpp, --mpp-table or --slides-dir",
}
