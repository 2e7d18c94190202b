"""Bank of tiles for `mil bench learn`: features of each labelled tile under many stains.

A cohort of composite slides is drawn from the bank, and costs no encoding.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float16, Int

from mil.demo.composite_plan import CompositeSlide, plan_composites
from mil.io import h5

FORMAT = "mil.bench.learn.features"
VERSION = 1


class ToolCohort(NamedTuple):
    """Slides that `mil demo composites` writes: its `--seed`, `--slides` and `--witness`."""

    seed: int
    slides: int
    witness: float

    @property
    def file(self) -> str:
        """Name of the file of their features."""
        return f"tool_seed{self.seed}_slides{self.slides}_witness{self.witness:g}.h5"


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Features of all tiles under several stains, on disk.

    Attributes:
        folder: folder of the files, one for each stain.
        digest: digest of tiles, encoder and settings, which names the folder.
        labels: 1 for tumour, 0 for normal.
        usable: tiles that are not blank.
        stains: number of stains.
        groups: group of each tile by its own stain, where cohorts divide them by it.
    """

    folder: Path
    digest: str
    labels: Int[np.ndarray, " tiles"]
    usable: Bool[np.ndarray, " tiles"]
    stains: int
    groups: Int[np.ndarray, " tiles"] | None = None

    def features(self) -> Float16[np.ndarray, "stains tiles dim"]:
        """Features of all tiles under all stains, read once in a process."""
        return _read_stains(self.folder, self.stains)

    def tool_features(self, cohort: ToolCohort) -> Float16[np.ndarray, "tiles dim"]:
        """Features of the tiles of `tool_slides`, slide after slide."""
        return _read_features(self.folder / cohort.file)

    def tool_slides(self, cohort: ToolCohort) -> list[CompositeSlide]:
        """Training and validation slides of `mil demo composites`, in its order."""
        plan = plan_composites(
            self.labels,
            self.usable,
            slides=cohort.slides,
            witness=cohort.witness,
            seed=cohort.seed,
        )
        return [slide for slide in plan if slide.split in ("train", "val")]


def stain_file(stain: int) -> str:
    """Name of the file of one stain's features."""
    return f"stain_{stain:02d}.h5"


def write_features(path: Path, features: Float16[np.ndarray, "tiles dim"]) -> None:
    """Write one file of a bank: features of all tiles, or of the slides of a cohort."""
    with h5.writing(path, FORMAT, VERSION) as file:
        file["features"] = features


def _read_features(path: Path) -> Float16[np.ndarray, "tiles dim"]:
    with h5.reading(path, FORMAT, VERSION) as file:
        features: Float16[np.ndarray, "tiles dim"] = file["features"][:]
        return features


@lru_cache(maxsize=1)
def _read_stains(folder: Path, stains: int) -> Float16[np.ndarray, "stains tiles dim"]:
    return np.stack([_read_features(folder / stain_file(stain)) for stain in range(stains)])
