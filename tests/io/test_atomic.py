"""A file appears whole or not at all."""

import json
import os
import time

import pytest

from mil.errors import DatasetError
from mil.io import atomic
from mil.io.atomic import (
    atomic_path,
    check_not_inputs,
    remove_abandoned,
    write_json,
    write_text,
)
from mil.io.guard import _fork


def test_content_arrives_with_its_folders_and_nothing_else(tmp_path):
    target = tmp_path / "new" / "deep" / "a.txt"
    with atomic_path(target) as scratch:
        scratch.write_text("whole")
        assert not target.exists()
        assert scratch.suffix == ".txt"
        assert scratch.parent == target.parent
        assert scratch.name.startswith(".")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_scratch(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as scratch:
        scratch.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(target.exists()))
    write_text(target, "x")
    assert seen == [False]


def scratch_of(target, *, pid=None, start=None, machine=None):
    """A scratch file as another writer of the target leaves it; default: this process."""
    owner = [machine or atomic._machine(), pid or f"{os.getpid():x}"]
    owner.append(start or f"{atomic._start_of(os.getpid()):x}")
    path = target.with_name(f".partial-{'-'.join(owner)}-0123abcd-{target.name}")
    path.write_text("cut")
    return path


def dead_pid():
    child = _fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return f"{child:x}"


def test_what_a_killed_run_left_for_this_file_is_removed(tmp_path):
    target = tmp_path / "a[1].h5"  # brackets are a pattern's
    dead = dead_pid()
    scratch_of(target, pid=dead)
    other = scratch_of(tmp_path / "b.h5", pid=dead)
    write_text(target, "new")
    assert sorted(tmp_path.iterdir()) == sorted([other, target])


def test_what_killed_runs_left_in_a_folder_is_removed(tmp_path):
    dead = dead_pid()
    for name in ("a.h5", "b.json"):
        scratch_of(tmp_path / name, pid=dead)
    kept = [scratch_of(tmp_path / "c.h5"), scratch_of(tmp_path / "d.h5", machine="0" * 8)]
    kept += [tmp_path / "e.h5", tmp_path / ".partial-"]
    for path in kept[2:]:
        path.touch()
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_process_number_that_was_given_again_is_no_live_writer(tmp_path):
    target = tmp_path / "a.h5"
    scratch_of(target, start="1")
    write_text(target, "new")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("days", [0, 2])
def test_scratch_of_another_machine_or_version_is_removed_only_when_old(tmp_path, days):
    target = tmp_path / "a.h5"
    dead = dead_pid()
    others = [scratch_of(target, pid=dead, machine="0" * 8)]
    others.append(tmp_path / f".partial-{'0' * 32}-a.h5")
    others[1].write_text("cut")
    written = time.time() - days * 86400
    for path in others:
        os.utime(path, (written, written))
    write_text(target, "new")
    assert sorted(tmp_path.iterdir()) == sorted([target, *([] if days else others)])


def test_of_two_live_writers_both_end_well_and_the_last_stays(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as scratch:
        scratch.write_text("last")
        write_text(target, "between")
        assert target.read_text() == "between"
    assert target.read_text() == "last"
    assert list(tmp_path.iterdir()) == [target]


def write_often(target, name):
    for number in range(15):
        write_text(target, f"{name} {number}")


def test_concurrent_writes_of_one_file_all_end_well(tmp_path):
    target = tmp_path / "a.txt"
    children = []
    for name in "abc":
        child = _fork()
        if child == 0:
            try:
                write_often(target, name)
            except BaseException:  # noqa: BLE001 - the parent asserts
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert target.read_text().endswith(" 14")
    assert list(tmp_path.iterdir()) == [target]


def test_the_scratch_name_is_no_longer_than_stated(tmp_path):
    with atomic_path(tmp_path / "a") as scratch:
        scratch.write_text("")
        assert len(scratch.name) - len("a") <= atomic.LONGEST_SCRATCH
    longest = tmp_path / ("x" * (atomic.LONGEST_NAME - atomic.LONGEST_SCRATCH))
    write_text(longest, "fits")
    assert longest.read_text() == "fits"


def test_json_keeps_the_order_of_keys_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"z": 1, "a": [0.5, None, "µm"]})
    assert list(json.loads(path.read_text(encoding="utf-8")).items()) == [
        ("z", 1),
        ("a", [0.5, None, "µm"]),
    ]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert '"z": 1' in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_whose_name_ends_like_anothers_is_left_alone(tmp_path):
    with atomic_path(tmp_path / "case-12.h5") as long:
        long.write_text("long")
        with atomic_path(tmp_path / "12.h5") as short:
            short.write_text("short")
    assert (tmp_path / "case-12.h5").read_text() == "long"
    assert (tmp_path / "12.h5").read_text() == "short"


def test_a_scratch_that_somebody_removed_is_one_line(tmp_path):
    target = tmp_path / "a.txt"
    with (
        pytest.raises(DatasetError, match=r"a\.txt: another run removed it while it was written"),
        atomic_path(target) as scratch,
    ):
        scratch.write_text("first")
        scratch.unlink()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_read_is_not_written_over(tmp_path):
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    check_not_inputs([tmp_path / "b.h5"], [tmp_path / "a.h5", None])
    for same in (tmp_path / "a.h5", tmp_path / "x/../a.h5", tmp_path / "link.h5"):
        with pytest.raises(DatasetError, match="is read by this command, and would be lost"):
            check_not_inputs([tmp_path / "b.h5", same], [tmp_path / "a.h5"])
