"""Small disks and disks that cannot be written to, in a space of mounts that ends with us."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Set in the process that has its own space of mounts.
INSIDE = "CHAOS_MOUNTS"


def enter_own_mounts() -> None:
    """Start this command again in a space of mounts of its own, where the machine allows it.

    Mounts there are seen by nobody else and are gone with the last process, however it ends.
    """
    if INSIDE in os.environ or not shutil.which("unshare"):
        return
    own = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        return
    command = [*own, sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
    os.execvpe(own[0], command, {**os.environ, INSIDE: "1"})


def no_mounts() -> str:
    """Reason why nothing can be mounted here; empty if it can."""
    if INSIDE in os.environ:
        return ""
    return "this machine gives no space of mounts (`unshare --mount`)"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk of a size, mounted on a new folder; the folder is empty when the block ends."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(folder))
    try:
        yield
    finally:
        _unmount(folder)


def resize(folder: Path, kilobytes: int) -> None:
    """Give a mounted small disk another size; it may be full then, and loses nothing."""
    _mount("-o", f"remount,size={kilobytes}k", str(folder))


def used_kilobytes(folder: Path) -> int:
    """Space that files on a small disk take."""
    stat = os.statvfs(folder)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize // 1024


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Refuse every write below a folder, of root too, while the block runs."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        _unmount(folder)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _unmount(folder: Path) -> None:
    # Lazily: a process may still have its log file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
