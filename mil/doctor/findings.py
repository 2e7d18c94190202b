"""Findings of `mil doctor` as plain values: of slides, encoders and rates of reading.

Field names are keys of the JSON that `mil doctor --json` writes.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

# States of slides whose file does not exist (yet).
ABSENT = ("missing", "not_fetched")


def no_coords() -> Int[np.ndarray, "tiles 2"]:
    """Coordinates of no tiles."""
    return np.empty((0, 2), np.int32)


@dataclass(frozen=True)
class LevelFinding:
    """One level of a slide.

    Attributes:
        width_px: Width, pixels of the level.
        height_px: Height, pixels of the level.
        downsample: Factor by which level 0 is larger.
        decoder: Compression that mil decodes itself, or `OpenSlide`.
        cut_off: Number of blocks behind the end of the file; None where only OpenSlide
            knows how the level is stored.
    """

    width_px: int
    height_px: int
    downsample: float
    decoder: str
    cut_off: int | None


@dataclass(frozen=True)
class RegionFinding:
    """Annotation of a slide, or one of its masks.

    Attributes:
        kind: `annotation`, `tissue` or `region`.
        file: Path of the file.
        classes: Number of its regions by class; empty for images.
        counted: Classes that count: of an annotation those of the positive region.
        area_mm2: Area of what counts, mm²; None where the file cannot be read.
        warnings: Sentences about doubtful properties.
        is_damaged: Whether the file exists and cannot be read; an annotation of that kind
            stops `evaluate`.
    """

    kind: str
    file: str
    classes: dict[str, int] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    area_mm2: float | None = None
    warnings: list[str] = field(default_factory=list)
    is_damaged: bool = False


# Compared by identity (eq=False): fields hold arrays, whose equality has no truth
# value.
@dataclass(frozen=True, eq=False)
class TilingFinding:
    """Expected result of `tile` and `features` for one size and resolution of tiles.

    Attributes:
        state: State that the slide would end in.
        reason: Reason of a state that is not `ok`.
        num_tiles: Number of tiles; of the whole grid where tissue was not detected.
        tissue_mm2: Area of the tissue, mm²; None where it was not detected.
        level: Level that tiles are read from.
        excess: Pixels of that level for each pixel of a tile.
        tried: Number of tiles that were read.
        unreadable: Top left corners of those that failed, level-0 pixels.
        warnings: Sentences about doubtful properties.
        side_level0_px: Side of a tile, level-0 pixels.
        to_time: Tiles to measure the rate of reading with.
    """

    state: str
    reason: str
    num_tiles: int = 0
    tissue_mm2: float | None = None
    level: int = 0
    excess: float = 1.0
    tried: int = 0
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    side_level0_px: float = 0.0
    to_time: Int[np.ndarray, "tiles 2"] = field(default_factory=no_coords, repr=False)


@dataclass(frozen=True, eq=False)
class SlideFinding:
    """One slide; unknown values are empty or None.

    Attributes:
        slide: Id of the slide.
        file: Path of its file.
        state: Name of the state it would end in.
        reason: Reason of a state that is not `ok`.
        size_bytes: Size of the file, bytes.
        vendor: Vendor, as OpenSlide names it.
        size_px: Width and height of level 0, pixels.
        scanned_px: Width and height of the scanned part, level-0 pixels.
        levels: All levels, largest first.
        mpp: Pixel size of level 0, micrometres.
        mpp_source: Source of that pixel size.
        mpp_said: Pixel size by each source that states one, micrometres.
        tilings: Findings by tiling, such as `224px_0.5mpp`.
        warnings: Sentences about doubtful properties.
        regions: Findings on its annotation and masks.
        scene: Image that the slide table names, in a file of several.
    """

    slide: str
    file: str
    state: str = "error"
    reason: str = ""
    size_bytes: int | None = None
    vendor: str = ""
    size_px: tuple[int, int] | None = None
    scanned_px: tuple[int, int] | None = None
    levels: list[LevelFinding] = field(default_factory=list)
    mpp: float | None = None
    mpp_source: str = ""
    mpp_said: dict[str, float] = field(default_factory=dict)
    tilings: dict[str, TilingFinding] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    regions: list[RegionFinding] = field(default_factory=list)
    scene: str = ""

    @property
    def decoder(self) -> str:
        """Decoder of the level that tiles are read from: a compression, or OpenSlide."""
        first = next(iter(self.tilings.values()), None)
        return self.levels[first.level if first else 0].decoder if self.levels else ""

    @property
    def format(self) -> str:
        """Vendor and decoder."""
        return f"{self.vendor} {'through' if self.decoder == 'OpenSlide' else 'in'} {self.decoder}"

    @property
    def size_mm(self) -> tuple[float, float] | None:
        """Width and height of level 0, millimetres."""
        if self.size_px is None or self.mpp is None:
            return None
        return self.size_px[0] * self.mpp / 1000, self.size_px[1] * self.mpp / 1000


@dataclass(frozen=True)
class EncoderFinding:
    """One encoder: availability of its weights, and size of its bags on disk."""

    encoder: str
    tiling: str
    dim: int
    licence: str
    weights: str
    weights_ok: bool
    detail: str
    bags_bytes: int
    largest_bag_bytes: int
    largest_bag_slide: str


@dataclass(frozen=True)
class SlideEncoderFinding:
    """One published slide encoder: availability of its weights."""

    slide_encoder: str
    dim: int
    licence: str
    weights: str
    weights_ok: bool
    detail: str


@dataclass(frozen=True)
class JoinedFinding:
    """Joined encoders: their name, length of a tile's features, and size of the bags on disk."""

    encoder: str
    dim: int
    bags_bytes: int


@dataclass(frozen=True)
class Rate:
    """Rate at which one core reads tiles of a format, measured on one slide."""

    format: str
    slide: str
    num_tiles: int
    tiles_per_s: float
