"""Slide encoders of a run: can their weights be had?"""

from collections.abc import Sequence

from mil.config.slide_encoders import (
    STATISTICS,
    check_slide_encoder,
    load_slide_encoder,
    published_slide_encoders,
)
from mil.doctor.findings import SlideEncoderFinding
from mil.errors import ConfigError, unknown_name
from mil.slide_encoders.availability import slide_weights_status


def inspect_slide_encoders(
    names: Sequence[str], recipes: Sequence[str]
) -> list[SlideEncoderFinding]:
    """Findings of the published slide encoders of these; others have no weights to get.

    Args:
        names: Slide encoders of a run.
        recipes: Recipes of the run, whose heads are slide encoders too.

    Raises:
        ConfigError: A name is none of a slide encoder.
    """
    published = published_slide_encoders()
    known = [*STATISTICS, *published, *recipes]
    for name in names:
        check_slide_encoder(name)
        if name not in known:
            raise ConfigError(unknown_name("slide encoder", name, known))
    return [_inspect(name) for name in dict.fromkeys(names) if name in published]


def _inspect(name: str) -> SlideEncoderFinding:
    entry = load_slide_encoder(name)
    weights = slide_weights_status(name, entry, in_run=True)
    return SlideEncoderFinding(
        slide_encoder=name,
        dim=entry.dim,
        licence=entry.licence,
        weights=weights.status,
        weights_ok=weights.available,
        detail=weights.message,
    )
