"""A fake hub: its cache, its responses, and the addresses it was asked for."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

NO_FILE = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)


class FakeHub:
    """An empty cache and a hub that does not answer, until a test says otherwise.

    Attributes:
        cache: path by repository, file and revision.
        answers: what comes back for an address that holds the key: bytes of a file, or
            an error.
        asked: the addresses that were asked, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache: dict[tuple[str, str, str | None], str] = {}
        self.answers: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []

    def cached(self, repository, file, revision=None):
        return self.cache.get((repository, file, revision))

    def metadata(self, url, timeout):
        assert 0 < timeout <= 3
        return SimpleNamespace(size=len(self._answer(url)))

    def download(self, repository, file, revision=None):
        if constants.HF_HUB_OFFLINE:
            raise errors.LocalEntryNotFoundError(
                "Cannot find the requested files in the disk cache\nand so on"
            )
        content = self._answer(f"/{repository}/resolve/{revision or 'main'}/{file}")
        path = self.folder / repository / "snapshots" / (revision or "f00d") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.cache[repository, file, revision] = str(path)
        return str(path)

    def _answer(self, url):
        self.asked.append(url)
        answer = next(
            (answer for part, answer in self.answers.items() if part in url),
            ConnectionError("no route"),
        )
        if isinstance(answer, Exception):
            raise answer
        return answer


def play(monkeypatch: pytest.MonkeyPatch, folder: Path) -> FakeHub:
    """Replace the real hub by a fake one."""
    hub = FakeHub(folder)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", hub.cached)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", hub.metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return hub


def refusal(kind: type[Exception], code: int = 403) -> Exception:
    """An error of the hub's library, as an answer with this status makes it."""
    return kind("no", response=SimpleNamespace(status_code=code, headers={}, request=None))
