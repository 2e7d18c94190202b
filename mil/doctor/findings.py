"""Findings of `mil doctor` as plain values: of slides, encoders and the whole dataset.

Field names are keys of the JSON that `mil doctor --json` writes.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from mil.io.bags.advice import remedy_before_run

FORMAT = "mil.doctor"
VERSION = 1
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


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All findings about a dataset.

    Attributes:
        dataset: Name of the dataset.
        slides_dir: Folder of the slides.
        results_dir: Folder of the results of a run.
        free_bytes: Free space of the disk of `results_dir`, bytes.
        tissue: Whether tissue was detected.
        slides: Findings of the slides, in the order of the table.
        encoders: Findings of the encoders, with those that are joined.
        tiles: Number of tiles of all slides that are ok, by tiling.
        how_to_get: Instructions of the dataset to download its slides.
        rates: Measured rates of reading, by format.
        table_notes: Sentences on the slide table, such as empty cells.
        table_faults: Faults of names, paths and URLs of the dataset, and packages that are not
            installed.
        joined: Findings of the joined encoders.
        slide_encoders: Findings of the published slide encoders.
    """

    dataset: str
    slides_dir: str
    results_dir: str
    free_bytes: int
    tissue: bool
    slides: list[SlideFinding]
    encoders: list[EncoderFinding]
    tiles: dict[str, int]
    how_to_get: str
    rates: list[Rate]
    table_notes: list[str] = field(default_factory=list)
    table_faults: list[str] = field(default_factory=list)
    joined: list[JoinedFinding] = field(default_factory=list)
    slide_encoders: list[SlideEncoderFinding] = field(default_factory=list)

    @property
    def lost(self) -> list[SlideFinding]:
        """Slides that are not ok."""
        return [slide for slide in self.slides if slide.state != "ok"]

    @property
    def bags_bytes(self) -> int:
        """Size of the bags of all encoders, bytes."""
        of_encoders = sum(encoder.bags_bytes for encoder in self.encoders)
        return of_encoders + sum(joined.bags_bytes for joined in self.joined)

    @property
    def seconds_to_read(self) -> float | None:
        """Estimated time of one core to read all tiles; None without a measured rate."""
        if not self.rates:
            return None
        seconds_per_tile = {rate.format: 1 / rate.tiles_per_s for rate in self.rates}
        # For formats that were not measured.
        mean = sum(seconds_per_tile.values()) / len(seconds_per_tile)
        usable = [slide for slide in self.slides if slide.state == "ok"]
        # Encoders are run one by one, and each reads the slides again.
        return sum(
            slide.tilings[encoder.tiling].num_tiles * seconds_per_tile.get(slide.format, mean)
            for encoder in self.encoders
            for slide in usable
        )

    @property
    def faults(self) -> list[str]:
        """Obstacles to a run, one phrase each; none when it may start."""
        faults = list(self.table_faults)
        absent = sum(slide.state in ABSENT for slide in self.lost)
        for count, fault in ((absent, "missing"), (len(self.lost) - absent, "unusable")):
            if count:
                faults.append(f"{count} of {len(self.slides)} slides {fault}")
        damaged = sum(
            file.kind == "annotation" and file.is_damaged
            for slide in self.slides
            for file in slide.regions
        )
        if damaged:
            faults.append(f"annotations of {damaged} of {len(self.slides)} slides unreadable")
        # Of joined encoders one may be there at several tilings.
        unavailable = [finding.encoder for finding in self.encoders if not finding.weights_ok]
        unavailable += [
            finding.slide_encoder for finding in self.slide_encoders if not finding.weights_ok
        ]
        faults += [
            f"the weights of {name} are not available" for name in dict.fromkeys(unavailable)
        ]
        if self.bags_bytes > self.free_bytes:
            faults.append("the bags do not fit on the disk")
        return faults

    def advice(self, slide: SlideFinding) -> str:
        """Remedy for a slide's state; empty for `ok`."""
        return remedy_before_run(
            slide.state, slide.reason, dataset=self.dataset, slides_dir=self.slides_dir
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, with format and version."""
        plain = asdict(self)
        for slide, finding in zip(plain["slides"], self.slides, strict=True):
            # Computed, so not among the fields that asdict knows.
            slide["advice"] = self.advice(finding)
            slide["size_mm"] = finding.size_mm
            for tiling in slide["tilings"].values():
                # An array, and of use to the doctor alone.
                del tiling["to_time"]
        return {
            "format": FORMAT,
            "version": VERSION,
            "ready": not self.faults,
            "faults": self.faults,
            **plain,
            "bags_bytes": self.bags_bytes,
            "seconds_to_read_on_one_core": self.seconds_to_read,
        }
