"""The tiles file: where to look on a slide, or the named state that says why not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mil.io.h5 import reading, writing

FORMAT = "mil.tiles"
VERSION = 2
STATES = ("ok", "no_tissue", "no_mpp", "unreadable", "corrupt_regions")


@dataclass(frozen=True)
class TileGeometry:
    """Physical scale of a slide's tiles; lengths in pixels of level 0 unless the name says otherwise."""

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
    overview_scale: float  # level-0 pixels per pixel of the overview picture
    mpp_source: str = ""  # who says so; see mil.io.slides.resolution
    tissue_source: str = ""  # found, found on second try, or the user's file


@dataclass(frozen=True, eq=False)
class Tiles:
    """A slide's tiles: geometry, corners (level-0 pixels, x and y, row by row), share of tissue, quality columns.

    Quality is 0..1 by name (`pen`, `blur`, `fold`, `blood`, `black`); it flags tiles
    and removes none.
    """

    geometry: TileGeometry
    coords: Int[np.ndarray, "tiles 2"]
    tissue: Float[np.ndarray, " tiles"]
    quality: Mapping[str, Float[np.ndarray, " tiles"]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Names this set of tiles: equal for equal corners and scale."""
        scale = (
            f"{self.geometry.tile_px} {self.geometry.target_mpp!r} {self.geometry.side_level0_px!r}"
        )
        return sha256(
            np.ascontiguousarray(self.coords, np.int32).tobytes() + scale.encode()
        ).hexdigest()


def write_tiles(path: Path, tiles: Tiles) -> None:
    """Write a tiles file whole or not at all."""
    with writing(path, FORMAT, VERSION) as file:
        file["coords"] = tiles.coords.astype(np.int32)
        file["tissue"] = tiles.tissue.astype(np.float16)
        for name, values in tiles.quality.items():
            file[f"quality/{name}"] = values.astype(np.float16)
        file.attrs.update(asdict(tiles.geometry), digest=tiles.digest)


def read_tiles(path: Path) -> Tiles:
    """Read a tiles file.

    Raises:
        FormatError: it is not one, or was never finished.
    """
    with reading(path, FORMAT, VERSION) as file:
        values = {name: file.attrs[name] for name in TileGeometry.__dataclass_fields__}
        plain = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in values.items()
        }
        quality = {
            name: values[:].astype(np.float32) for name, values in file.get("quality", {}).items()
        }
        return Tiles(
            TileGeometry(**plain), file["coords"][:], file["tissue"][:].astype(np.float32), quality
        )
