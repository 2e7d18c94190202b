"""Facts that an estimate of costs starts from: slides, their size, their tiles, a machine."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mil.config import Config, DatasetConfig
from mil.config.machines import MachineConfig
from mil.errors import FormatError
from mil.io.tables import Slide
from mil.io.tables.paths import locate
from mil.io.tables.text_files import irregular
from mil.plan.figures import Figure

GB = 1e9
SIZE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(GB|TB)(\s+each)?\b")
MAX_DOCTOR_BYTES = 500 << 20
# Bytes or tiles of one slide; larger integers are no floats.
MAX_COUNT = 1 << 60


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """Options of `mil plan --cost`.

    Attributes:
        encoders: names of encoders; empty: those of configs/config.yaml.
        machine: name or yaml of a machine; empty: of the benchmark files alone.
        bench: files of `mil bench tile` and `mil bench features`.
        doctor: file of `mil doctor --json`, which knows tiles and sizes.
        tiles: tiles of a slide on average, where nothing else tells.
    """

    encoders: Sequence[str] = ()
    machine: str = ""
    bench: Sequence[Path] = ()
    doctor: Path | None = None
    tiles: float | None = None


@dataclass(frozen=True)
class CostStudy:
    """Facts that the estimate starts from.

    Attributes:
        name: name of the dataset.
        config: settings of the run.
        dataset: the dataset's yaml.
        rows: its slide table.
        machine: rates and prices.
        doctor: slides that `mil doctor` found to be ok; empty: it was not asked.
        options: options of the command.
    """

    name: str
    config: Config
    dataset: DatasetConfig
    rows: Sequence[Slide]
    machine: MachineConfig
    doctor: Sequence[Mapping[str, Any]]
    options: CostOptions

    @property
    def num_slides(self) -> Figure:
        """Number of slides."""
        return Figure(len(self.rows), "slide table")


def read_doctor(path: Path) -> list[Mapping[str, Any]]:
    """Slides that `mil doctor` found to be ok, from the file that it wrote.

    Raises:
        FormatError: The file is another one.
    """
    try:
        if irregular(path) or path.stat().st_size > MAX_DOCTOR_BYTES:
            raise ValueError("no file, or far too long")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != "mil.doctor":
            raise ValueError("another format")
        return [dict(slide) for slide in content["slides"] if slide["state"] == "ok"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise FormatError(f"{path}: not written by `mil doctor DATASET --json`") from None


def slide_bytes(study: CostStudy) -> Figure:
    """Bytes of all slides: on the disk, as `mil doctor` found them, or as the yaml says."""
    sizes = [slide.get("size_bytes") for slide in study.doctor]
    known = [float(size) for size in sizes if isinstance(size, int) and 0 <= size < MAX_COUNT]
    if known:
        return _scaled(sum(known), len(known), study, f"mil doctor ({study.options.doctor})")
    folder = Path(study.config.slides_dir or study.dataset.folder(study.name))
    files = [locate(row, folder, study.dataset) for row in study.rows]
    present = [file.stat().st_size for file in files if file.is_file()]
    if present:
        return _scaled(sum(present), len(present), study, f"files in {folder}")
    match = SIZE.search(study.dataset.size)
    if match:
        factor = GB if match[2] == "GB" else 1000 * GB
        factor *= len(study.rows) if match[3] else 1
        return Figure(float(match[1].replace(",", ".")) * factor, "size of the dataset's yaml")
    return Figure(None, "sizes of the slides: mil doctor DATASET --json FILE, then --doctor FILE")


def _scaled(total: float, number: int, study: CostStudy, source: str) -> Figure:
    """Total over all slides, from that over some of them."""
    every = len(study.rows)
    scaled = "" if number == every else f", {number} of {every} slides, scaled to all"
    return Figure(total * every / number, source + scaled)


def num_tiles(study: CostStudy, tiling: str) -> Figure:
    """Number of tiles of all slides, as `mil doctor` counted them or the user states.

    Args:
        study: Facts of the study.
        tiling: Name of the tiling, such as `224px_0.5mpp`.
    """
    counts = []
    for slide in study.doctor:
        found = slide.get("tilings")
        entry = found.get(tiling) if isinstance(found, dict) else None
        number = entry.get("num_tiles") if isinstance(entry, dict) else None
        if isinstance(number, int) and 0 <= number < MAX_COUNT:
            counts.append(number)
    if counts:
        return _scaled(sum(counts), len(counts), study, f"mil doctor ({study.options.doctor})")
    if study.options.tiles:
        per_slide = study.options.tiles
        return Figure(per_slide * len(study.rows), f"slides × {per_slide:g} tiles (--tiles)")
    return Figure(
        None,
        f"tiles of {tiling}: mil doctor DATASET --json FILE, then --doctor FILE; or --tiles N",
    )
