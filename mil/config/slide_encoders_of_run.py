"""Checks of a run's slide encoders before it begins: names, weights, features, tiles."""

from collections.abc import Sequence
from pathlib import Path

from mil.config.encoders import load_encoder
from mil.config.slide_encoders import (
    ASKED_FOR,
    STATISTICS,
    check_slide_encoder,
    load_slide_encoder,
    needs_heads,
    published_slide_encoders,
    tiles_advice,
    unfit_tiles,
)
from mil.errors import ConfigError


def check_slide_encoders(names: Sequence[str], recipes: Sequence[str]) -> None:
    """Check the slide encoders of a run.

    Args:
        names: Slide encoders.
        recipes: Recipes of the run, whose heads are trained.

    Raises:
        ConfigError: One is neither a statistic of the tiles, nor published, nor a recipe of
            the run; or its weights are none that a run can get.
    """
    for name in names:
        check_slide_encoder(name)
        _check_weights(name)
        if needs_heads(name) and name not in recipes:
            raise ConfigError(
                f"config: slide_encoder: {name} is neither one of "
                f"{', '.join((*STATISTICS, *published_slide_encoders()))} nor a "
                f"recipe of this run (head: {', '.join(recipes)}); add it to head, so that its "
                "heads are trained"
            )


def _check_weights(name: str) -> None:
    # Now, and not after hours of features. What a network gives can come later.
    if name not in published_slide_encoders():
        return
    entry = load_slide_encoder(name)
    if entry.hub is not None or entry.weights == "random" or Path(entry.weights).is_file():
        return
    reason = f"no weights file {entry.weights}; put it there, or"
    if entry.weights == ASKED_FOR:
        reason = f"its weights are given on request, at {entry.page};"
    raise ConfigError(
        f"config: slide_encoder: {name}: {reason} set `weights: PATH` in "
        f"configs/slide_encoders/{name}.yaml"
    )


def check_encoders_of_run(names: Sequence[str], encoders: Sequence[str], remedy: str) -> None:
    """Check that a run has the features that its published slide encoders stand on.

    Args:
        names: Slide encoders.
        encoders: Names of the run's encoders of tiles.
        remedy: What to do without the features; `{encoder}` stands for their encoder.

    Raises:
        ConfigError: The encoder of the tiles is missing.
    """
    for name in (name for name in names if name in published_slide_encoders()):
        encoder = load_slide_encoder(name).encoder
        if encoder not in encoders:
            raise ConfigError(
                f"config: slide_encoder: {name} stands on the features of {encoder}, not of "
                f"{', '.join(encoders)}; {remedy.format(encoder=encoder)}"
            )


def check_tiles_of_run(names: Sequence[str], size_px: int | None, mpp: float | None) -> None:
    """Check that a run cuts tiles of the side that its published slide encoders take.

    Args:
        names: Slide encoders, whose encoders of tiles are in the run.
        size_px: Side of a tile, pixels; None: that of the encoder.
        mpp: Resolution of a tile, micrometres per pixel; None: that of the encoder.

    Raises:
        ConfigError: The tiles have another side.
    """
    for name in (name for name in names if name in published_slide_encoders()):
        entry = load_slide_encoder(name)
        encoder = load_encoder(entry.encoder)
        side_um = (size_px or encoder.tile_px) * (mpp or encoder.mpp)
        if not entry.takes_side(side_um):
            raise ConfigError(
                f"config: slide_encoder: {name} takes tiles of {entry.tile_um:g} µm, those of "
                f"this run are {side_um:g} µm wide; {tiles_advice(entry)}"
            )


def check_tiles_of_bags(
    names: Sequence[str], path: Path, tile_px: int | None, mpp: float | None
) -> None:
    """Check that precomputed bags are of tiles that a run's published slide encoders take.

    Args:
        names: Slide encoders.
        path: One of the bags, for the message.
        tile_px: Side of its tiles, pixels; None: not known.
        mpp: Resolution of its tiles, micrometres per pixel; None: not known.

    Raises:
        ConfigError: The tiles have another side.
    """
    for name in (name for name in names if name in published_slide_encoders()):
        reason = unfit_tiles(name, load_slide_encoder(name), tile_px, mpp)
        if reason:
            raise ConfigError(f"config: slide_encoder: {path}: {reason} and without bags")
