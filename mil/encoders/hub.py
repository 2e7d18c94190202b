"""Model files on the Hugging Face hub: look them up in the cache, ask, or download."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

# Short, since `mil doctor` and `mil encoders list` ask about several encoders in turn.
TIMEOUT_S = 3.0

HubStatus = Literal["missing", "unknown", "gated", "offline", "not reachable"]
Result = TypeVar("Result")


class Repository(NamedTuple):
    """A repository on the hub; the revision is None for the newest commit."""

    name: str
    revision: str | None = None
    kind: Literal["model", "dataset"] = "model"

    @property
    def page(self) -> str:
        """Address of the repository's page."""
        from huggingface_hub import constants

        folder = "datasets/" if self.kind == "dataset" else ""
        return f"{constants.ENDPOINT}/{folder}{self.name}"


class HubError(Exception):
    """A file cannot be had from the hub.

    Attributes:
        status: Reason in one or two words.
        message: Line for the user, with what to do if only the user can.
    """

    def __init__(self, status: HubStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def cached_file(repository: Repository, names: Sequence[str]) -> Path | None:
    """First of some files that is in the local cache; the hub is not asked.

    Args:
        repository: Repository of the files.
        names: File names in order of preference.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        path = try_to_load_from_cache(repository.name, name, revision=repository.revision)
        # The library returns an object of its own for a file known not to exist.
        if isinstance(path, str):
            return Path(path)
    return None


def remote_size(repository: Repository, names: Sequence[str]) -> int | None:
    """Size of the first of some files that exists on the hub, bytes; None: not stated.

    Args:
        repository: Repository of the files.
        names: File names in order of preference.

    Raises:
        HubError: None of them can be had.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    # This call ignores the setting by which users forbid the network.
    if constants.HF_HUB_OFFLINE:
        raise offline_error(repository)

    def size_of(name: str) -> int | None:
        url = hf_hub_url(repository.name, name, revision=repository.revision)
        return get_hf_file_metadata(url, timeout=TIMEOUT_S).size

    return _first(repository, names, size_of)


def local_file(repository: Repository, names: Sequence[str]) -> Path:
    """First of some files that exists, from the cache or downloaded into it.

    Args:
        repository: Repository of the files.
        names: File names in order of preference.

    Raises:
        HubError: None of them can be had.
    """
    from huggingface_hub import hf_hub_download

    def download(name: str) -> Path:
        return Path(hf_hub_download(repository.name, name, revision=repository.revision))

    return cached_file(repository, names) or _first(repository, names, download)


def commit_of(path: Path) -> str | None:
    """Commit of a file in the cache, which is part of its path; None outside the cache."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _first(
    repository: Repository, names: Sequence[str], request: Callable[[str], Result]
) -> Result:
    """Result of a request for the first file that the repository has."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            return request(name)
        # A subclass of the next one, but it means that the hub was not reached.
        except LocalEntryNotFoundError as error:
            raise hub_error(error, repository) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  each network library has errors of its own
            raise hub_error(error, repository) from None
    raise HubError("missing", f"{repository.name} has no file {' or '.join(names)}")


def hub_error(error: Exception, repository: Repository) -> HubError:
    """Translate an error of the hub's library into one line for the user."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = repository.name
    # From the most special to the most general: the first three are HTTP errors too.
    match error:
        case GatedRepoError():
            return HubError("gated", gated_message(repository))
        case RepositoryNotFoundError():
            return HubError(
                "unknown",
                f"the hub has no repository {name} that you may read: check the name, or log in",
            )
        case RevisionNotFoundError():
            return HubError("unknown", f"{name} has no revision {repository.revision}")
        case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return offline_error(repository)
        case LocalEntryNotFoundError():
            return HubError(
                "not reachable", f"{name} is not on this disk and the hub does not answer"
            )
        case HfHubHTTPError():
            return HubError(
                "not reachable", f"{name}: the hub answers {error.response.status_code}"
            )
    return HubError("not reachable", f"{name} cannot be reached ({type(error).__name__})")


def gated_message(repository: Repository) -> str:
    """Advice for a repository that the hub gives only to accounts with access."""
    from huggingface_hub import get_token

    if get_token():
        return (
            "the account that this machine is logged in with has no access: ask for it on "
            f"{repository.page}, and try again once it is granted"
        )
    return f"ask for access on {repository.page}, then log in with `hf auth login`"


def offline_error(repository: Repository) -> HubError:
    """Error that forbids to ask the hub for a repository."""
    return HubError("offline", f"{repository.name} is not on this disk and HF_HUB_OFFLINE is set")
