"""Locks of killed runs: Snakemake's own stay behind, and refuse the next run of the folder."""

import contextlib
import json
import os
import shutil
import socket
from pathlib import Path

SNAKEMAKE_FOLDER = Path(".snakemake")
RUN_FILE = "mil_run.json"


def record_run(folder: Path = SNAKEMAKE_FOLDER) -> None:
    """Record this process as the one that holds the folder's locks.

    Args:
        folder: Snakemake's folder of records.
    """
    # Without the record a kill is followed by Snakemake's advice (`--unlock`), no more.
    with contextlib.suppress(OSError):
        pid = os.getpid()
        record = {"place": _place(), "pid": pid, "leads_group": os.getpgrp() == pid}
        (folder / RUN_FILE).write_text(json.dumps(record), encoding="utf-8")


def forget_run(folder: Path = SNAKEMAKE_FOLDER) -> None:
    """Remove the record of a run that has ended by itself.

    Args:
        folder: Snakemake's folder of records.
    """
    with contextlib.suppress(OSError):
        (folder / RUN_FILE).unlink(missing_ok=True)


def remove_stale_locks(folder: Path = SNAKEMAKE_FOLDER) -> str:
    """Remove the locks of a recorded run whose processes have ended on this machine.

    Locks without a record, or of another machine, stay: that run may be alive.

    Args:
        folder: Snakemake's folder of records.

    Returns:
        One line about the killed run, for the log; empty if there is none.
    """
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        place, pid = record["place"], record["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if place != _place() or not isinstance(pid, int) or pid <= 0 or _is_alive(pid):
        return ""
    if record.get("leads_group") and _is_alive(-pid):
        return (
            f"jobs of a run that was killed (process {pid}) still run in this folder; "
            f"wait until they end, or end them: kill -- -{pid}"
        )
    locks = folder / "locks"
    had_locks = locks.is_dir() and any(locks.iterdir())
    if had_locks:
        shutil.rmtree(locks, ignore_errors=True)
    # Before the next run takes its locks, so that none can be mistaken for the dead's.
    forget_run(folder)
    return f"the locks of a run that was killed (process {pid}) are removed" if had_locks else ""


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
