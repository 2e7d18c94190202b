"""Names of heads: the files of mil/heads, and the plug-ins of other packages.

No head is imported here, for that would import torch.
"""

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from mil.errors import ConfigError, unknown_name

# Group of entry points by which other packages add heads; the value of each is a
# module.
PLUGIN_GROUP = "mil.heads"

# Its files are heads; a leading underscore marks parts that several heads share.
HEADS_FOLDER = Path(__file__).parents[1] / "heads"


def own_heads() -> list[str]:
    """Names of the heads that come with mil: the files of mil/heads."""
    return sorted(path.stem for path in HEADS_FOLDER.glob("[a-z]*.py"))


def plugged_heads() -> dict[str, EntryPoint]:
    """Entry points of the heads of other packages, by name.

    Of two with the same name the first is returned; `check_head` refuses them.
    """
    entries: dict[str, EntryPoint] = {}
    for entry in _plugins():
        entries.setdefault(entry.name, entry)
    return entries


def package_of(entry: EntryPoint) -> str:
    """Name, as pip knows it, of the package that a plugged-in head comes from."""
    return entry.dist.name if entry.dist else entry.value.partition(".")[0]


def head_names() -> list[str]:
    """Names of all heads, sorted."""
    return sorted({*own_heads(), *plugged_heads()})


def check_head(name: str) -> EntryPoint | None:
    """Check that a name means exactly one head.

    Returns:
        Entry point of a plugged-in head; None for a head of mil.

    Raises:
        ConfigError: No head, or more than one, has that name.
    """
    entries = [entry for entry in _plugins() if entry.name == name]
    owners = ["mil"] * (name in own_heads()) + [package_of(entry) for entry in entries]
    if not owners:
        raise ConfigError(unknown_name("head", name, head_names()))
    # Refused, not resolved: the order of installed packages must not decide which head
    # is trained.
    if len(owners) > 1:
        raise ConfigError(
            f"head {name} is in {' and in '.join(owners)}; rename it in {owners[-1]} "
            f"(entry point of {PLUGIN_GROUP}), or uninstall that package"
        )
    return entries[0] if entries else None


def _plugins() -> list[EntryPoint]:
    """Entry points of heads, of all packages on Python's path."""
    change_times: list[tuple[str, int]] = []
    for entry in sys.path:
        folder = Path(entry or ".")
        # The folder changes where a package is installed.
        changed_ns = folder.stat().st_mtime_ns if folder.exists() else 0
        change_times.append((entry, changed_ns))
    return _plugins_of_path(tuple(change_times))


@cache
def _plugins_of_path(change_times: tuple[tuple[str, int], ...]) -> list[EntryPoint]:
    """Entry points of heads, looked up once for each state of the path.

    A study builds hundreds of heads, and a look at all packages takes longer than to
    build one.
    """
    return list(entry_points(group=PLUGIN_GROUP))
