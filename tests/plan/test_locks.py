"""Locks that a killed run left are removed, and those of a living one never."""

import json
import os
import signal
import subprocess
import sys

import pytest

from mil.plan import locks


@pytest.fixture
def folder(tmp_path):
    """Snakemake's folder with a run's locks."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.output.lock").write_text("results/report.html")
    return tmp_path


def is_locked(folder):
    return (folder / "locks").exists()


def continue_in(folder, *, wait=True):
    log = []
    locks.continue_after_kill(log.append, wait=wait, folder=folder)
    return log


def record(folder, **changes):
    locks.record_run(folder)
    path = folder / locks.RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_locks_of_a_killed_run_are_removed(folder, dead):
    record(folder, pid=dead, leads_group=True)
    assert continue_in(folder) == [
        f"the locks of a run that was killed (process {dead}) were removed"
    ]
    assert not is_locked(folder)
    assert not (folder / locks.RUN_FILE).exists()
    assert continue_in(folder) == []


def test_the_locks_of_a_living_run_stay(folder):
    locks.record_run(folder)
    assert continue_in(folder) == []
    assert is_locked(folder)


def test_a_run_beside_a_living_one_names_it(folder, monkeypatch):
    locks.record_run(folder)
    monkeypatch.setattr(locks, "_is_snakemake", lambda pid: pid == os.getpid())
    assert continue_in(folder, wait=False) == []  # a dry run is allowed
    (line,) = continue_in(folder)
    assert line.startswith(f"another run works in this folder (process {os.getpid()}): start this")
    assert is_locked(folder)
    (folder / "locks" / "0.output.lock").unlink()
    assert continue_in(folder) == []


def test_another_program_is_no_run():
    assert not locks._is_snakemake(os.getpid()) or "snakemake" in " ".join(sys.orig_argv)
    command = [sys.executable, "-c", "print(flush=True); input()", "snakemake"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        # Until then its command line may still be that of this process.
        process.stdout.readline()
        assert locks._is_snakemake(process.pid)
        process.communicate(b"\n")
    assert not locks._is_snakemake(process.pid)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"place": 1, "pid": "x", "leads_group": 0}', "\xff"]
)
def test_locks_whose_run_is_not_known_stay(folder, text):
    (folder / locks.RUN_FILE).write_text(text, encoding="latin-1")
    assert continue_in(folder) == []
    assert is_locked(folder)


@pytest.mark.parametrize("changes", [{"place": "elsewhere"}, {"pid": 0}, {"pid": -5}])
def test_locks_of_another_machine_stay(folder, dead, changes):
    record(folder, **{"pid": dead, **changes})
    assert continue_in(folder) == []
    assert is_locked(folder)


def test_a_run_that_ended_by_itself_leaves_no_record(folder):
    locks.record_run(folder)
    locks.forget_run(folder)
    assert not (folder / locks.RUN_FILE).exists()
    locks.forget_run(folder / "none")
    locks.record_run(folder / "none")


def test_jobs_that_a_killed_run_left_are_named_and_awaited(folder):
    # The run leads a group, starts a job, and is killed; the job lives on.
    code = "import subprocess; subprocess.Popen(['sleep', '60']); print(flush=True); input()"
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        run.stdout.readline()
        run.kill()
        run.wait()
        record(folder, pid=run.pid, leads_group=True)
        assert continue_in(folder, wait=False)[0].endswith(f"kill -- -{run.pid}")
        assert is_locked(folder)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.stdin.close()
        run.stdout.close()
    assert len(continue_in(folder)) in (1, 2)  # the killed job may still be dying
    assert not is_locked(folder)
