"""What the doctor finds out, as plain values: of a slide, of an encoder, of the whole dataset."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from mil.io.bags.status import ADVICE

FORMAT = "mil.doctor"
VERSION = 1
# States that only the doctor knows: of slides that are not there yet, and of faults of
# ours.
ABSENT = ("missing", "not_fetched")
MORE_ADVICE = {
    "missing": "if the slides are elsewhere, give --slides-dir DIR (for a run: `--config slides_dir=DIR`)",
    "not_fetched": "fetch them first, no GPU is needed: `snakemake --cores all --until fetch --config dataset={}`",
    "bad_mask": "mend the file that you drew, or take it away",
    "error": "this is a fault of mil: report it, with the slide's format and the line below",
}


def advice(state: str, dataset: str) -> str:
    """What to do about a state of a dataset's slide; empty for `ok`."""
    return {**ADVICE, **MORE_ADVICE}.get(state, "").replace("{}", dataset)


def no_coords() -> Int[np.ndarray, "tiles 2"]:
    """No tiles."""
    return np.empty((0, 2), np.int32)


@dataclass(frozen=True)
class LevelFinding:
    """One level: its size, how much smaller than level 0 it is, who decodes it, and blocks behind the file's end.

    `cut_off` is None where only OpenSlide knows how the level is stored.
    """

    width_px: int
    height_px: int
    downsample: float
    decoder: str
    cut_off: int | None


@dataclass(frozen=True, eq=False)
class TilingFinding:
    """What `tile` and `features` would make of a slide for one size and resolution of tiles.

    `level` is what tiles are read from, and `excess` how many of its pixels there are
    for each pixel of a tile. Where tissue was not looked for, `tissue_mm2` is None and
    `num_tiles` counts the whole grid. `tried` tiles were read, those at `unreadable`
    (level-0 pixels, top left) could not be.
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
    to_time: Int[np.ndarray, "tiles 2"] = field(
        default_factory=no_coords, repr=False
    )  # tiles to measure reading with


@dataclass(frozen=True, eq=False)
class SlideFinding:
    """One slide; what is not known is empty or None. `tilings` goes by names such as `224px_0.5mpp`."""

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

    @property
    def decoder(self) -> str:
        """How the level is decoded that tiles are read from: its compression where that is fast, else OpenSlide."""
        first = next(iter(self.tilings.values()), None)
        return self.levels[first.level if first else 0].decoder if self.levels else ""

    @property
    def format(self) -> str:
        """Vendor and decoder."""
        return f"{self.vendor} {'through' if self.decoder == 'OpenSlide' else 'in'} {self.decoder}"

    @property
    def size_mm(self) -> tuple[float, float] | None:
        """Width and height of level 0."""
        if self.size_px is None or self.mpp is None:
            return None
        return self.size_px[0] * self.mpp / 1000, self.size_px[1] * self.mpp / 1000


@dataclass(frozen=True)
class EncoderFinding:
    """One encoder: whether its weights can be had, and what its bags will take on disk."""

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
class Rate:
    """How fast one core reads tiles of a format, measured on a slide of the dataset."""

    format: str
    slide: str
    num_tiles: int
    tiles_per_s: float


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Everything the doctor found."""

    dataset: str
    slides_dir: str
    results_dir: str
    free_bytes: int
    tissue: bool
    slides: list[SlideFinding]
    encoders: list[EncoderFinding]
    tiles: dict[str, int]  # by tiling, of all slides that are ok
    how_to_get: str  # what the dataset says about getting its slides
    rates: list[Rate]

    @property
    def lost(self) -> list[SlideFinding]:
        """Slides that are not ok."""
        return [slide for slide in self.slides if slide.state != "ok"]

    @property
    def bags_bytes(self) -> int:
        """Disk that all bags take."""
        return sum(encoder.bags_bytes for encoder in self.encoders)

    @property
    def seconds_to_read(self) -> float | None:
        """Estimate for one core; None when nothing could be measured."""
        if not self.rates:
            return None
        paces = {rate.format: 1 / rate.tiles_per_s for rate in self.rates}
        usual = sum(paces.values()) / len(paces)  # of formats that were not measured
        usable = [slide for slide in self.slides if slide.state == "ok"]
        # Each encoder reads the slides anew.
        return sum(
            slide.tilings[encoder.tiling].num_tiles * paces.get(slide.format, usual)
            for encoder in self.encoders
            for slide in usable
        )

    @property
    def faults(self) -> list[str]:
        """What stands in the way of a run, one phrase each; none when it may start."""
        faults = []
        absent = sum(slide.state in ABSENT for slide in self.lost)
        for count, what in ((absent, "not there"), (len(self.lost) - absent, "unusable")):
            if count:
                faults.append(f"{count} of {len(self.slides)} slides {what}")
        faults += [
            f"the weights of {e.encoder} cannot be had" for e in self.encoders if not e.weights_ok
        ]
        if self.bags_bytes > self.free_bytes:
            faults.append("the bags do not fit on the disk")
        return faults

    def as_json(self) -> dict[str, Any]:
        """Plain values, with format and version."""
        plain = asdict(self)
        for slide, finding in zip(plain["slides"], self.slides, strict=True):
            slide["advice"], slide["size_mm"] = advice(finding.state, self.dataset), finding.size_mm
            for tiling in slide["tilings"].values():
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
