"""The tiles file: positions of a slide's tiles, or the named state why there are none."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter, ValidationError

from mil.errors import FormatError
from mil.io.checksums import check_arrays, write_arrays
from mil.io.h5 import dataset_of, plain, reading, writing

FORMAT = "mil.tiles"
VERSION = 2
# Group of the quality columns.
QUALITY = "quality"
# From which value each quality column flags a tile.
FLAG = {"pen": 0.05, "fold": 0.3, "blood": 0.5, "black": 0.05, "blur": 0.4}
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
        scanner: vendor and model of the scanner as the file states them; empty: not known.
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
    scanner: str = ""


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
        return tile_digest(
            self.coords, geometry.tile_px, geometry.target_mpp, geometry.side_level0_px
        )


def tile_digest(
    coords: Int[np.ndarray, "tiles 2"],
    tile_px: int | None,
    target_mpp: float | None,
    side_level0_px: float | None,
) -> str:
    """Digest of a set of tiles; see `TileGeometry` for their scale.

    Args:
        coords: top left corners, level-0 pixels, (x, y).
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution that the encoder sees, micrometres per pixel.
        side_level0_px: side of a tile on the slide, level-0 pixels.
    """
    scale = f"{tile_px} {target_mpp!r} {side_level0_px!r}"
    # In the type of the file, so that a digest survives writing and reading.
    corners = np.ascontiguousarray(coords, np.int32).tobytes()
    return sha256(corners + scale.encode()).hexdigest()


def write_tiles(path: Path, tiles: Tiles, *, made_from: str = "") -> None:
    """Write a tiles file whole or not at all.

    Args:
        path: File to write.
        tiles: Tiles of a slide.
        made_from: Digest of what they depend on; see `mil.io.provenance`.
    """
    # Shares need no more than three digits.
    quality = {
        f"{QUALITY}/{name}": shares.astype(np.float16) for name, shares in tiles.quality.items()
    }
    arrays: dict[str, np.ndarray] = {
        "coords": tiles.coords.astype(np.int32),
        "tissue": tiles.tissue.astype(np.float16),
        **quality,
    }
    with writing(path, FORMAT, VERSION, made_from=made_from) as file:
        write_arrays(file, arrays)
        file.attrs.update(asdict(tiles.geometry), digest=tiles.digest)


def read_tiles(path: Path | str) -> Tiles:
    """Read a tiles file.

    Raises:
        FormatError: the file is no tiles file, was never finished, or was changed since it
            was written.
    """
    path = Path(path)
    with reading(path, FORMAT, VERSION) as file:
        geometry = _geometry(file, path)
        quality = [f"{QUALITY}/{name}" for name in file.get(QUALITY, ())]
        arrays = {
            name: np.asarray(dataset_of(file, name, path))
            for name in ("coords", "tissue", *quality)
        }
        _check_shapes(arrays, path)
        check_arrays(file, arrays, path)
        tiles = Tiles(
            geometry,
            arrays["coords"],
            arrays["tissue"].astype(np.float32),
            {name.partition("/")[2]: arrays[name].astype(np.float32) for name in quality},
        )
        # Bags name their tiles by it. Older files have it too, but no checksums.
        if str(file.attrs.get("digest", tiles.digest)) != tiles.digest:
            raise FormatError(
                f"{path}: its corners or their scale differ from its digest, so they were changed "
                "after they were written; delete the file and tile the slide again"
            )
        return tiles


def flagged(
    quality: Mapping[str, Float[np.ndarray, " tiles"]],
) -> dict[str, Bool[np.ndarray, " tiles"]]:
    """Tiles that each quality column flags."""
    return {name: values >= FLAG[name] for name, values in quality.items() if name in FLAG}


@dataclass(frozen=True)
class SlideFacts:
    """Attributes of a tiles file that a table of slides shows; see `TileGeometry`."""

    mpp_level0: float
    width_level0_px: int
    height_level0_px: int
    tissue_mm2: float
    mpp_source: str = ""
    scanner: str = ""


class TilesSummary(NamedTuple):
    """What a table of many slides shows of a tiles file.

    Attributes:
        facts: scale, size and scanner of the slide.
        num_tiles: number of tiles.
        num_flagged: number of tiles that each quality column flags.
    """

    facts: SlideFacts
    num_tiles: int
    num_flagged: dict[str, int]


_FACTS_TYPE = TypeAdapter(SlideFacts)


def read_summary(path: Path) -> TilesSummary:
    """Read a tiles file without its corners, and without comparing checksums.

    Raises:
        FormatError: the file is no tiles file, was never finished, or holds something that
            cannot be.
    """
    with reading(path, FORMAT, VERSION) as file:
        # Few attributes: each takes as long as opening the file.
        stored = file.attrs
        names = [name for name in SlideFacts.__dataclass_fields__ if name in stored]
        try:
            facts = _FACTS_TYPE.validate_python({name: plain(stored[name]) for name in names})
        except ValidationError as error:
            raise FormatError(
                f"{path}: {error.errors()[0]['loc'][0]} cannot be used; tile the slide again"
            ) from None
        columns = file.get(QUALITY, {})
        quality = {name: columns[name] for name in FLAG if name in columns}
        tissue = dataset_of(file, "tissue", path)
        if any(
            not isinstance(item, h5py.Dataset)
            or item.shape != tissue.shape
            or item.dtype.kind != "f"
            for item in quality.values()
        ):
            raise FormatError(
                f"{path}: a quality column is not a number of each tile; tile the slide again"
            )
        by_flag = flagged({name: item[()].astype(np.float32) for name, item in quality.items()})
        num_tiles = len(tissue)
    num_flagged = {name: int(tiles.sum()) for name, tiles in by_flag.items()}
    return TilesSummary(facts, num_tiles, num_flagged)


_GEOMETRY_TYPE = TypeAdapter(TileGeometry)


def _geometry(file: h5py.File, path: Path) -> TileGeometry:
    """The attributes, whose types are checked: a tiles file may come from anywhere."""
    stored = file.attrs
    names = [name for name in TileGeometry.__dataclass_fields__ if name in stored]
    try:
        geometry = _GEOMETRY_TYPE.validate_python({name: plain(stored[name]) for name in names})
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise FormatError(
            f"{path}: its attributes cannot be used: {faults}; tile the slide again"
        ) from None
    if geometry.state not in STATES:
        raise FormatError(f"{path}: no state is called {geometry.state!r}; tile the slide again")
    return geometry


def _check_shapes(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse columns of other lengths than the corners."""
    count = len(arrays["coords"]) if arrays["coords"].ndim else 0
    for name, array in arrays.items():
        shape = (count, 2) if name == "coords" else (count,)
        kind = "iu" if name == "coords" else "f"
        if array.shape != shape or array.dtype.kind not in kind:
            raise FormatError(
                f"{path}: {name} is not the numbers of each tile that it should be; tile the slide "
                "again"
            )
