"""The diagnosis of a dataset: all findings, what they sum to, and whether a run may start.

Field names are keys of the JSON that `mil doctor --json` writes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from mil.doctor.findings import (
    ABSENT,
    EncoderFinding,
    JoinedFinding,
    Rate,
    SlideEncoderFinding,
    SlideFinding,
)
from mil.io.bags.advice import remedy_before_run

FORMAT = "mil.doctor"
VERSION = 1


# Compared by identity (eq=False), as its findings are.
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
    def usable(self) -> list[SlideFinding]:
        """Slides that are ok."""
        return [slide for slide in self.slides if slide.state == "ok"]

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
        # Encoders are run one by one, and each reads the slides again.
        return sum(
            slide.tilings[encoder.tiling].num_tiles * seconds_per_tile.get(slide.format, mean)
            for encoder in self.encoders
            for slide in self.usable
        )

    @property
    def faults(self) -> list[str]:
        """Obstacles to a run, one phrase each; none when it may start."""
        faults = [*self.table_faults, *self._slide_faults(), *self._weights_faults()]
        if self.bags_bytes > self.free_bytes:
            faults.append("the bags do not fit on the disk")
        return faults

    def _slide_faults(self) -> Iterator[str]:
        absent = sum(slide.state in ABSENT for slide in self.lost)
        for count, fault in ((absent, "missing"), (len(self.lost) - absent, "unusable")):
            if count:
                yield f"{count} of {len(self.slides)} slides {fault}"
        damaged = sum(
            file.kind == "annotation" and file.is_damaged
            for slide in self.slides
            for file in slide.regions
        )
        if damaged:
            yield f"annotations of {damaged} of {len(self.slides)} slides unreadable"

    def _weights_faults(self) -> Iterator[str]:
        # Of joined encoders one may be there at several tilings.
        unavailable = [finding.encoder for finding in self.encoders if not finding.weights_ok]
        unavailable += [
            finding.slide_encoder for finding in self.slide_encoders if not finding.weights_ok
        ]
        for name in dict.fromkeys(unavailable):
            yield f"the weights of {name} are not available"

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
