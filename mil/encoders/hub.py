"""Files of models on the Hugging Face hub: in the cache of this disk, to be had by this user, or to be brought here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

TIMEOUT_S = 3.0
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")

Got = TypeVar("Got")


class Repository(NamedTuple):
    """A model on the hub."""

    name: str
    revision: str | None = None


class HubError(Exception):
    """The hub does not give a file: one word why, and a line that says what to do if only this user can."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail)
        self.word = word
        self.detail = detail


def cached(repository: Repository, wanted: Sequence[str]) -> Path | None:
    """The first of these files that is in the cache; nobody is asked whether it is the newest."""
    from huggingface_hub import try_to_load_from_cache

    for file in wanted:
        path = try_to_load_from_cache(repository.name, file, revision=repository.revision)
        if isinstance(path, str):
            return Path(path)
    return None


def ask_size(repository: Repository, wanted: Sequence[str]) -> int | None:
    """Bytes of the first of these files that there is, asked of the hub.

    Raises:
        HubError: it cannot be had.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise HubError(
            "offline", f"{repository.name} is not on this disk and HF_HUB_OFFLINE is set"
        )
    return _first(
        repository,
        wanted,
        lambda file: (
            get_hf_file_metadata(
                hf_hub_url(repository.name, file, revision=repository.revision), timeout=TIMEOUT_S
            ).size
        ),
    )


def bring(repository: Repository, wanted: Sequence[str]) -> Path:
    """The first of these files that there is, from the cache, else downloaded into it.

    Raises:
        HubError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    return cached(repository, wanted) or _first(
        repository,
        wanted,
        lambda file: Path(hf_hub_download(repository.name, file, revision=repository.revision)),
    )


def commit_of(path: Path) -> str | None:
    """The commit that a file of the cache belongs to, which its path says."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _first(repository: Repository, wanted: Sequence[str], get: Callable[[str], Got]) -> Got:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in wanted:
        try:
            return get(file)
        except LocalEntryNotFoundError as error:
            raise explained(error, repository) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001  no network has as many names as there are libraries
            raise explained(error, repository) from None
    raise HubError("missing", f"{repository.name} has none of {', '.join(wanted)}")


def explained(error: Exception, repository: Repository) -> HubError:
    """What an error of the hub's library means to the user."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = repository.name
    match error:
        case GatedRepoError():
            page = f"{constants.ENDPOINT}/{name}"
            return HubError("gated", f"ask for access on {page}, then log in with `hf auth login`")
        case RepositoryNotFoundError():
            return HubError(
                "unknown", f"the hub has no {name}, or not for you: check the name, or log in"
            )
        case RevisionNotFoundError():
            return HubError("unknown", f"{name} has no revision {repository.revision}")
        case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return HubError("offline", f"{name} is not on this disk and HF_HUB_OFFLINE is set")
        case LocalEntryNotFoundError():
            return HubError(
                "not reachable", f"{name} is not on this disk and the hub does not answer"
            )
        case HfHubHTTPError():
            return HubError(
                "not reachable", f"{name}: the hub answers {error.response.status_code}"
            )
    return HubError("not reachable", f"{name} ({type(error).__name__})")
