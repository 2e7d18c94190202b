"""Read and embed the tiles of a slide; heads that stream score them meanwhile."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mil.encoders.runner import BatchedEncoder, extraction_settings, state_after_reading
from mil.errors import FormatError
from mil.features.extract import encoded_batches
from mil.features.stain import normalised, stain_for, with_stain
from mil.io.bags.stain import SlideStain
from mil.io.slides import TileRequest
from mil.io.tiles import Tiles
from mil.predict.curve import Cells
from mil.predict.ensemble import Ensemble
from mil.predict.running import Running
from mil.predict.settings import PredictionSettings
from mil.progress import progress


@dataclass(frozen=True)
class EmbeddedSlide:
    """A slide after its tiles were read: state, validity, and features or scores."""

    state: str
    reason: str
    valid: Bool[np.ndarray, " tiles"]
    # None where no features were kept: then `running` has the scores.
    features: Float[np.ndarray, "tiles dim"] | None
    running: Running | None
    # None where no curve was asked for.
    cells: Cells | None
    # None where stains are not normalised.
    stain: SlideStain | None


def embed(
    slide: Path,
    tiles: Tiles,
    ensemble: Ensemble,
    runner: BatchedEncoder,
    settings: PredictionSettings,
) -> EmbeddedSlide:
    """Read all tiles; heads that stream see each batch as it comes."""
    geometry = tiles.geometry
    count = len(tiles.coords)
    dtype = settings.features.dtype
    max_corrupt = settings.features.max_corrupt
    running = Running(ensemble.models, count) if ensemble.streams else None
    cells = Cells(ensemble.models, count) if settings.curve else None
    # Memory grows with the slide only where features are kept: 2 bytes a feature and
    # tile, 26 MB for 10 000 tiles of `efficientnet_lite0`.
    keeps_features = settings.bags_dir is not None or running is None
    features = np.zeros((count, runner.dim), dtype) if keeps_features else None
    valid = np.zeros(count, bool)
    tried = 0
    # A generator holds worker threads, which an error must not leave behind.
    request = TileRequest(
        slide, tiles.coords, geometry.side_level0_px, geometry.tile_px, geometry.scene
    )
    extraction = extraction_settings(
        [runner], count, max_corrupt=max_corrupt, threads=settings.threads
    )
    stain = stain_for(settings.features, request, threads=settings.threads)
    batches = encoded_batches(request, normalised([runner], stain), extraction)
    with progress(f"predict {geometry.slide}", count, "tiles") as advance, closing(batches):
        for batch in batches:
            rounded = _rounded(batch.features[0], dtype, geometry.slide, runner)
            valid[batch.rows] = batch.readable
            tried = batch.rows.stop
            if features is not None:
                features[batch.rows][batch.readable] = rounded
            if running is not None:
                running.add(rounded)
            if cells is not None:
                numbers = np.arange(batch.rows.start, batch.rows.stop)
                cells.add(numbers[batch.readable], rounded)
            advance(len(batch.readable), running.estimate() if running else "")
    state, reason = state_after_reading(valid, tried, max_corrupt)
    return EmbeddedSlide(state, with_stain(reason, stain), valid, features, running, cells, stain)


def _rounded(
    features: Float[np.ndarray, "tiles dim"], dtype: str, slide: str, runner: BatchedEncoder
) -> Float[np.ndarray, "tiles dim"]:
    """Features as a bag would hold them, so that streaming changes no prediction.

    Raises:
        FormatError: some are not finite in that type.
    """
    with np.errstate(over="ignore"):
        rounded = features.astype(dtype)
    if not np.isfinite(rounded).all():
        raise FormatError(
            f"{slide}: {runner.encoder.name} gives features that are not finite in {dtype}; set "
            "features.dtype: float32 or features.precision: fp32 in configs/config.yaml"
        )
    return rounded
