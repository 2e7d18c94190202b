"""The tiles file: positions of a slide's tiles, or the named state why there are none."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mil.io.h5 import plain, reading, writing

FORMAT = "mil.tiles"
VERSION = 2
# Named states that a slide may end in; see docs/reference/results.md.
STATES = (
    "ok",
    "no_tissue",
    "empty_mask",
    "no_mpp",
    "too_coarse",
    "too_small",
    "several_images",
    "unreadable",
    "corrupt_regions",
)


@dataclass(frozen=True)
class TileGeometry:
    """Physical scale of a slide's tiles.

    Lengths are pixels of level 0 unless the name tells otherwise.

    Attributes:
        slide: the slide's id.
        state: named state of the slide.
        reason: why the state is not `ok`; else empty.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution that the encoder sees, micrometres per pixel.
        mpp_level0: micrometres per pixel of level 0.
        side_level0_px: side of a tile on the slide.
        width_level0_px: width of the slide.
        height_level0_px: height of the slide.
        origin_x_level0_px: left edge of the scanned part of the slide.
        origin_y_level0_px: top edge of the scanned part of the slide.
        tissue_mm2: area of tissue, square millimetres.
        overview_scale: level-0 pixels per pixel of the overview.
        mpp_source: source of `mpp_level0`; see `mil.io.slides.resolution`.
        tissue_source: `found`, found on a second try, or the name of the user's file.
        scene: name or number of the image that the user chose, in a file of several.
    """

    slide: str
    state: str
    reason: str
    tile_px: int
    target_mpp: float
    mpp_level0: float
    side_level0_px: float
    width_level0_px: int
    height_level0_px: int
    origin_x_level0_px: int
    origin_y_level0_px: int
    tissue_mm2: float
    overview_scale: float
    mpp_source: str = ""
    tissue_source: str = ""
    scene: str = ""


@dataclass(frozen=True, eq=False)
class Tiles:
    """A slide's tiles, row by row.

    Attributes:
        geometry: physical scale and state of the slide.
        coords: top left corners, level-0 pixels, (x, y).
        tissue: share of each tile that is tissue, 0..1.
        quality: quality columns, 0..1, by name (`pen`, `blur`, `fold`, `blood`,
            `black`); they flag tiles and remove none.
    """

    geometry: TileGeometry
    coords: Int[np.ndarray, "tiles 2"]
    tissue: Float[np.ndarray, " tiles"]
    quality: Mapping[str, Float[np.ndarray, " tiles"]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Name of this set of tiles: equal for equal corners and scale."""
        geometry = self.geometry
        scale = f"{geometry.tile_px} {geometry.target_mpp!r} {geometry.side_level0_px!r}"
        # Images of one file may be tiled alike.
        if geometry.scene:
            scale += f" {geometry.scene}"
        # In the type of the file, so that a digest survives writing and reading.
        corners = np.ascontiguousarray(self.coords, np.int32).tobytes()
        return sha256(corners + scale.encode()).hexdigest()


def write_tiles(path: Path, tiles: Tiles, *, made_from: str = "") -> None:
    """Write a tiles file whole or not at all.

    Args:
        path: File to write.
        tiles: Tiles of a slide.
        made_from: Digest of what they depend on; see `mil.io.provenance`.
    """
    with writing(path, FORMAT, VERSION, made_from=made_from) as file:
        file["coords"] = tiles.coords.astype(np.int32)
        # Shares need no more than three digits.
        file["tissue"] = tiles.tissue.astype(np.float16)
        for name, values in tiles.quality.items():
            file[f"quality/{name}"] = values.astype(np.float16)
        file.attrs.update(asdict(tiles.geometry), digest=tiles.digest)


def read_tiles(path: Path | str) -> Tiles:
    """Read a tiles file.

    Raises:
        FormatError: the file is no tiles file, or was never finished.
    """
    with reading(Path(path), FORMAT, VERSION) as file:
        attributes = {
            name: plain(file.attrs[name])
            for name in TileGeometry.__dataclass_fields__
            # Files of earlier versions have no scene.
            if name in file.attrs or name != "scene"
        }
        columns = file.get("quality", {}).items()
        quality = {name: values[:].astype(np.float32) for name, values in columns}
        tissue = file["tissue"][:].astype(np.float32)
        return Tiles(TileGeometry(**attributes), file["coords"][:], tissue, quality)
