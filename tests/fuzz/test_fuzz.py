"""The harness itself: each fault of a reader is found, and inputs repeat."""

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mil.errors import FormatError, MilError
from tests.fuzz import doors, inputs, pool
from tests.fuzz.doors import Door
from tests.fuzz.watch import CANARY_MODULE


def unnamed(folder, out):
    raise FormatError("something is wrong")


def not_ours(folder, out):
    raise KeyError("x")


def two_lines(folder, out):
    raise FormatError(f"{folder}: one\ntwo")


def written_line(folder, out):
    yield "one\ntwo"


def endless(folder, out):
    while True:
        pass


def waiting(folder, out):
    threading.Event().wait()


def large(folder, out):
    bytearray(1 << 30)


def peak(folder, out):
    # Written, or the system does not give it.
    bytearray(os.urandom(1 << 20) * 110)


def aborted(folder, out):
    os.abort()


def written_elsewhere(folder, out):
    Path("/tmp/fuzz_elsewhere").write_text("x")


def hidden(folder, out):
    try:
        subprocess.run(["true"], check=True)
    except BaseException:  # noqa: BLE001  as a reader that swallows all does
        raise FormatError(f"{folder}: damaged") from None


def in_a_child(folder, out):
    child = os.fork()
    if child == 0:
        try:
            written_elsewhere(folder, out)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def imported(folder, out):
    __import__(CANARY_MODULE)


def removed(folder, out):
    Path(__file__).with_name("no_such_file").unlink()


def fine(folder, out):
    (out / "x").write_text((folder / "x").read_text())


def refused(folder, out):
    raise MilError(f"{folder / 'x'}: is damaged")


def several_faults(folder, out):
    raise MilError(f"{folder / 'x'}: 2 faults:\n- line 1: wrong\n- line 2: wrong")


FAULTS = {
    unnamed: "unnamed",
    not_ours: "KeyError",
    two_lines: "lines",
    written_line: "lines",
    large: "memory",
    peak: "memory",
    aborted: "crash",
    written_elsewhere: "forbidden",
    hidden: "forbidden",
    in_a_child: "forbidden",
    imported: "forbidden",
    removed: "forbidden",
}
GOOD = (fine, refused, several_faults)


@pytest.fixture
def fakes(monkeypatch):
    seed = dict.fromkeys(["x"], b"content")
    fakes = {
        enter.__name__: Door(enter.__name__, (lambda: dict(seed),), enter)
        for enter in (*FAULTS, *GOOD, endless, waiting)
    }
    monkeypatch.setattr(pool, "BY_NAME", fakes)
    return fakes


def kinds_found(enters, seconds):
    jobs = [(enter.__name__, 5) for enter in enters]
    findings = pool.Pool(1, seconds=seconds, largest_bytes=100 << 20).run(jobs)
    return {finding.door: finding.kind for finding in findings}


def test_each_fault_of_a_reader_is_found_and_nothing_else(fakes):
    # Time enough for all but the endless one on any machine.
    found = kinds_found((*GOOD, *FAULTS, *GOOD), seconds=60.0)
    assert found == {enter.__name__: kind for enter, kind in FAULTS.items()}
    assert not Path("/tmp/fuzz_elsewhere").exists()


def test_a_reader_without_an_end_is_ended_and_the_next_is_tried(fakes):
    assert kinds_found((fine, endless, aborted), seconds=0.2) == {
        "endless": "hang",
        "aborted": "crash",
    }


def test_a_reader_that_waits_for_ever_is_ended(fakes):
    (finding,) = pool.Pool(1, seconds=0.05).run([("waiting", 1)])
    assert finding.kind == "hang"
    assert "wait" in finding.place
    assert finding.repeat == "python -m tests.fuzz --repeat waiting 1"


def test_a_late_import_of_a_module_never_compiled_is_no_fault(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "late_module.py").write_text("x = 1\n")

    def late(folder, out):
        importlib.import_module("late_module")

    fakes["late"] = Door("late", fakes["fine"].seeds, late)
    assert list(pool.Pool(1, seconds=60.0).run([("late", 5)])) == []


LIGHT = ("geojson", "xml", "init_csv", "dataset_yaml", "recipe", "splits", "config", "bag")


@pytest.mark.parametrize("name", LIGHT)
def test_an_input_is_always_the_same(name):
    door = doors.BY_NAME[name]
    numbers = range(len(door.hostile), len(door.hostile) + 10)
    first = [inputs.input_of(door, number) for number in numbers]
    door.made.clear()
    assert [inputs.input_of(door, number) for number in numbers] == first
    assert any(files != door.seed(0) for files in first)


@pytest.mark.slow
def test_every_hostile_kind_can_be_made_for_every_door():
    for door in doors.DOORS:
        for number in range(len(door.hostile)):
            assert inputs.input_of(door, number) != door.seed(0)
