"""Files of a dataset on the Hugging Face hub: list them, and download them with resume."""

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mil.encoders.hub import HubError, Repository, gated_message, hub_error, offline_error
from mil.errors import FormatError

# Longest silence of the hub while it is asked for the list of files.
TIMEOUT_S = 30.0
# Errors of a write, which carry no path, and which no network has.
OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)


class RemoteFile(NamedTuple):
    """A file of a repository.

    Attributes:
        path: Path in the repository.
        size: Size, bytes.
        sha256: Checksum, hex; empty where the hub states none (small files).
    """

    path: str
    size: int
    sha256: str = ""

    @property
    def scratch_name(self) -> str:
        """Name of the partial file on this disk, which no other file has."""
        # Never the path on the hub, which could lead out of the folder.
        return hashlib.sha256(f"{self.path} {self.size} {self.sha256}".encode()).hexdigest()[:24]


class RemoteListing(NamedTuple):
    """Files of a repository at one commit, by path."""

    commit: str
    files: Mapping[str, RemoteFile]


def list_files(repository: Repository, *, gated: bool) -> RemoteListing:
    """Files of a dataset at its revision, in one request.

    Args:
        repository: The dataset; without a revision, the newest commit is listed.
        gated: Whether the files are known to need an account.

    Raises:
        HubError: The hub cannot be asked, has no such repository, or wants an account.
    """
    from huggingface_hub import HfApi, constants, get_token

    # Not every call of the library respects the setting that forbids the network.
    if constants.HF_HUB_OFFLINE:
        raise offline_error(repository)
    # The list of a gated repository is public, and only the first file would be refused.
    if gated and not get_token():
        raise HubError("gated", gated_message(repository))
    try:
        info = HfApi().dataset_info(
            repository.name,
            revision=repository.revision,
            files_metadata=True,
            timeout=TIMEOUT_S,
        )
    except Exception as error:  # noqa: BLE001  each network library has errors of its own
        raise hub_error(error, repository) from None
    files = [_remote_file(sibling) for sibling in info.siblings or []]
    return RemoteListing(info.sha or "", {file.path: file for file in files})


def _remote_file(sibling: Any) -> RemoteFile:
    stored = sibling.lfs
    checksum = getattr(stored, "sha256", "") if stored else ""
    return RemoteFile(sibling.rfilename, sibling.size or 0, checksum)


def download(repository: Repository, file: RemoteFile, folder: Path, suffix: str) -> Path:
    """Download one file; a part that an earlier run left is continued.

    Args:
        repository: The dataset, with its commit.
        file: The file.
        folder: Folder for the file and its part.
        suffix: Ending of the file on this disk, by which readers know its kind.

    Raises:
        HubError: The hub cannot be reached, or refuses the file; the part stays.
        FormatError: The repository lacks the file, or it was damaged on its way.
    """
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.file_download import http_get

    target = folder / f"{file.scratch_name}{suffix}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    try:
        url, headers = _address(repository, file)
        with part.open("ab") as written:
            http_get(
                url,
                written,
                resume_size=written.tell(),
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.path,
            )
            written.flush()
            os.fsync(written.fileno())
    except EntryNotFoundError:
        raise FormatError(f"{repository.name}: has no file {file.path}") from None
    except OSError as error:
        # The library's own errors of the network are OSErrors too, but carry no number.
        if error.errno is not None and error.filename is not None:
            raise
        if error.errno in OF_DISK:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from None
        raise _cut_off(error, repository) from None
    except Exception as error:  # noqa: BLE001  each network library has errors of its own
        raise _cut_off(error, repository) from None
    _check(part, file, repository)
    return part.replace(target)


def _address(repository: Repository, file: RemoteFile) -> tuple[str, dict[str, str]]:
    """Address that the hub redirects a file to, and the headers for it."""
    from urllib.parse import urlsplit

    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(repository.name, file.path, repo_type="dataset", revision=repository.revision)
    location = get_hf_file_metadata(url, timeout=TIMEOUT_S).location
    headers = dict(build_hf_headers())
    # The token is the hub's alone: a store behind it has its own, in the address.
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)
    return location, headers


def _cut_off(error: Exception, repository: Repository) -> HubError:
    fault = hub_error(error, repository)
    if fault.status == "not reachable":
        fault.message += "; run the same command again to continue where it was cut off"
    return fault


def _check(part: Path, file: RemoteFile, repository: Repository) -> None:
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest() if file.sha256 else ""
    if digest != file.sha256 or part.stat().st_size != file.size:
        part.unlink()
        raise FormatError(
            f"{repository.name}: {file.path} was damaged on its way (its sha256 is {digest}, not "
            f"{file.sha256}); run the same command again"
        )
