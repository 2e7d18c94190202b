"""Log-in to the hub and download of weights before a run, for machines without a network."""

from pathlib import Path

from mil.config import EncoderConfig
from mil.config.encoders import HUB_PREFIXES
from mil.encoders.availability import (
    hub_repository,
    local_status,
    remote_source,
    torch_cache_path,
)
from mil.encoders.hub import HubError, local_file
from mil.errors import ConfigError, first_line


def log_in() -> None:
    """Log in to the hub, unless this machine is; its library asks for a token or a code.

    The token is kept where `hf auth login` keeps it.

    Raises:
        ConfigError: The hub refuses, or is not reached.
    """
    from huggingface_hub import login

    try:
        login(skip_if_logged_in=True)
    except Exception as error:  # noqa: BLE001  each network library has errors of its own
        raise ConfigError(
            f"log-in to the hub: {first_line(error)}; `hf auth login` is the same by itself"
        ) from None


def fetch(name: str, entry: EncoderConfig) -> Path | None:
    """Download everything that a run will ask the hub for; cached files stay as they are.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.

    Returns:
        File of the weights; None where the entry takes its weights from no hub.

    Raises:
        ConfigError: The weights cannot be had.
    """
    try:
        # timm reads the shape of a model on the hub from its config, also in a run
        # without a network and with weights from elsewhere.
        if entry.timm.startswith(HUB_PREFIXES):
            local_file(hub_repository(entry.timm), ["config.json"])
        if entry.weights == "timm" or entry.hub is not None:
            return _fetch_remote(entry)
    except HubError as error:
        raise ConfigError(f"encoder {name}: {error.message}") from None
    local = local_status(entry.weights)
    if not local.available:
        raise ConfigError(f"encoder {name}: {local.message}")
    return None


def _fetch_remote(entry: EncoderConfig) -> Path:
    source = remote_source(entry)
    if not source.url:
        return local_file(source.repository, source.names)
    from mil.encoders.timm_import import import_timm

    # Few models of timm are on no hub; timm itself downloads those.
    import_timm().create_model(entry.timm, pretrained=True)
    return torch_cache_path(source.url)
