"""Weights brought onto this disk before they are needed: on a machine with a network, for those without."""

from pathlib import Path

from mil.config import EncoderConfig
from mil.config.encoders import HUB
from mil.encoders.availability import given, kept, named, source
from mil.encoders.hub import HubError, bring
from mil.errors import ConfigError


def fetch(name: str, entry: EncoderConfig) -> Path | None:
    """Download what a run will ask the hub for; what is in the cache already stays.

    Args:
        name: the entry's name.
        entry: the entry.

    Returns:
        The file of weights; None where there is none to fetch, because the entry does
        not take it from the hub.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        if entry.timm.startswith(HUB):
            bring(named(entry.timm), ["config.json"])
        if entry.weights == "timm" or entry.hub is not None:
            return _from_hub(entry)
    except HubError as error:
        raise ConfigError(f"encoder {name}: {error.detail}") from None
    found = given(entry.weights)
    if not found.ok:
        raise ConfigError(f"encoder {name}: {found.detail}")
    return None


def _from_hub(entry: EncoderConfig) -> Path:
    asked = source(entry)
    if not asked.url:
        return bring(asked.repository, asked.wanted)
    import timm

    timm.create_model(entry.timm, pretrained=True)  # the few that are on no hub
    return kept(asked.url)
