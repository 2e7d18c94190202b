"""Availability of the weights of slide encoders, without torch."""

from pathlib import Path

from mil.config.slide_encoders import ASKED_FOR, SlideEncoderConfig
from mil.encoders.availability import RemoteSource, WeightsStatus, local_status, remote_status
from mil.encoders.hub import HubError, Repository, local_file
from mil.errors import ConfigError


def weights_advice(name: str, entry: SlideEncoderConfig, *, in_run: bool = False) -> str:
    """Advice for weights that are not on this disk.

    Args:
        name: Name of the slide encoder.
        entry: Its entry.
        in_run: Whether a run of the workflow is to embed, which has no option for them.
    """
    by_option = "" if in_run else ", or by `mil embed --weights PATH`"
    by_path = f"give the file by `weights: PATH` in configs/slide_encoders/{name}.yaml{by_option}"
    if entry.hub is None:
        return f"ask for its weights at {entry.page}, then {by_path}"
    return f"run `mil encoders fetch {name}` on a machine with a network, or {by_path}"


def slide_weights_status(
    name: str, entry: SlideEncoderConfig, *, ask_hub: bool = True, in_run: bool = False
) -> WeightsStatus:
    """Availability of a slide encoder's weights.

    Args:
        name: Name of the slide encoder.
        entry: Its entry.
        ask_hub: Whether to ask the hub about what is not on this disk.
        in_run: Whether a run of the workflow is to embed, which the advice is then for.
    """
    advice = weights_advice(name, entry, in_run=in_run)
    if entry.weights == ASKED_FOR:
        return WeightsStatus("on request", False, advice)
    source = _source(entry)
    if source is None:
        return local_status(entry.weights)
    return remote_status(source, advice, ask_hub=ask_hub)


def fetch_slide_weights(name: str, entry: SlideEncoderConfig) -> Path | None:
    """Download a slide encoder's weights; a cached file stays as it is.

    Args:
        name: Name of the slide encoder.
        entry: Its entry.

    Returns:
        File of the weights; None where the entry takes them from no hub.

    Raises:
        ConfigError: The weights cannot be had.
    """
    if entry.hub is None:
        status = slide_weights_status(name, entry)
        if not status.available:
            raise ConfigError(f"slide encoder {name}: {status.message}")
        return None
    return weights_file(name, entry)


def weights_file(name: str, entry: SlideEncoderConfig, path: Path | None = None) -> Path:
    """File of a slide encoder's weights, downloaded where it is not on this disk.

    Args:
        name: Name of the slide encoder.
        entry: Its entry.
        path: File of the user's; None: that of the entry.

    Raises:
        ConfigError: The weights cannot be had.
    """
    source = _source(entry)
    if path is None and source is not None:
        try:
            return local_file(source.repository, source.names)
        except HubError as error:
            advice = weights_advice(name, entry)
            raise ConfigError(f"slide encoder {name}: {error.message}; {advice}") from None
    if path is None and entry.weights == ASKED_FOR:
        raise ConfigError(f"slide encoder {name}: {weights_advice(name, entry)}")
    path = path or Path(entry.weights)
    if not path.is_file():
        advice = weights_advice(name, entry)
        raise ConfigError(f"slide encoder {name}: no weights file {path}; {advice}")
    return path


def _source(entry: SlideEncoderConfig) -> RemoteSource | None:
    if entry.hub is None or entry.hub.file is None:
        return None
    return RemoteSource(Repository(entry.hub.repository, entry.hub.revision), [entry.hub.file])
