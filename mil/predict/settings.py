"""Settings of a prediction, which all its slides share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mil.config import FeaturesConfig, HeatmapConfig, TileConfig
from mil.tile.stage import ignore


@dataclass(frozen=True)
class PredictionSettings:
    """Settings of a prediction; a folder that is None is not written.

    Attributes:
        tile: Settings of tissue and tiles.
        features: Settings of the encoder.
        heatmap: Settings of the heatmaps.
        mpp: Pixel size of level 0 of all slides, micrometres; None: as each slide states.
        threads: Number of CPU threads.
        heatmaps_dir: Folder for the heatmaps.
        bags_dir: Folder for the slides' bags.
        scene: Name or number of the image to read in files of several; empty: the
            largest that is neither a label nor an overview.
        curve: Whether to predict after every share of the tiles too.
        say: Function that is called with each line for the user.
    """

    tile: TileConfig
    features: FeaturesConfig
    heatmap: HeatmapConfig
    mpp: float | None
    threads: int
    heatmaps_dir: Path | None
    bags_dir: Path | None
    scene: str = ""
    curve: bool = False
    say: Callable[[str], object] = ignore
