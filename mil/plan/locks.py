"""Locks of killed runs: Snakemake's own stay behind, and refuse the next run of the folder."""

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SNAKEMAKE_FOLDER = Path(".snakemake")
RUN_FILE = "mil_run.json"


class _Run(NamedTuple):
    """A run that holds locks: its machine, its process, whether that leads its jobs' group."""

    place: str
    pid: int
    leads_group: bool


def record_run(folder: Path = SNAKEMAKE_FOLDER) -> None:
    """Record this process as the one that holds the folder's locks.

    Args:
        folder: Snakemake's folder of records.
    """
    # Without the record a kill is followed by Snakemake's advice (`--unlock`), no more.
    with contextlib.suppress(OSError):
        pid = os.getpid()
        run = _Run(_place(), pid, leads_group=os.getpgrp() == pid)
        (folder / RUN_FILE).write_text(json.dumps(run._asdict()), encoding="utf-8")


def forget_run(folder: Path = SNAKEMAKE_FOLDER) -> None:
    """Remove the record of a run that has ended by itself.

    Args:
        folder: Snakemake's folder of records.
    """
    with contextlib.suppress(OSError):
        (folder / RUN_FILE).unlink(missing_ok=True)


def continue_after_kill(
    log: Callable[[str], None], *, wait: bool, folder: Path = SNAKEMAKE_FOLDER
) -> None:
    """Remove the locks of a recorded run whose processes have ended on this machine.

    Locks without a record, or of another machine, stay: that run may be alive.

    Args:
        log: Receives what the user should know.
        wait: Whether to wait for jobs that the killed run left, which write its files.
        folder: Snakemake's folder of records.
    """
    run = _recorded_run(folder)
    if run is None:
        return
    if _is_alive(run.pid):
        # A dry run takes no locks. A number may have gone to another program since.
        if wait and _is_locked(folder) and _is_snakemake(run.pid):
            log(
                f"another run works in this folder (process {run.pid}): start this one when it has "
                "ended; --unlock would let both write the same files"
            )
        return
    if run.leads_group and _is_alive(-run.pid):
        log(
            f"jobs of a run that was killed (process {run.pid}) still run in this folder: this run "
            f"starts when they end; to end them now: kill -- -{run.pid}"
        )
        while wait and _is_alive(-run.pid):
            time.sleep(0.2)
        if not wait:
            return
    if _is_locked(folder):
        shutil.rmtree(folder / "locks", ignore_errors=True)
        log(f"the locks of a run that was killed (process {run.pid}) were removed")
    # Before the next run takes its locks, so that none can be mistaken for the dead's.
    forget_run(folder)


def _recorded_run(folder: Path) -> _Run | None:
    """The recorded run if it is of this machine, else None."""
    try:
        run = _Run(**json.loads((folder / RUN_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    is_here = run.place == _place() and isinstance(run.pid, int) and run.pid > 0
    return run if is_here else None


def _is_locked(folder: Path) -> bool:
    locks = folder / "locks"
    return locks.is_dir() and any(locks.iterdir())


def _is_snakemake(pid: int) -> bool:
    try:
        return b"snakemake" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _place() -> str:
    """Machine, and its space of process numbers: a container has one of its own."""
    try:
        processes = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {processes}"


def _is_alive(pid: int) -> bool:
    """Whether a process exists; of a negative number, any process of that group."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
