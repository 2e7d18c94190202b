"""A file appears whole or not at all."""

import json
import os

import pytest

from mil.errors import DatasetError
from mil.io.atomic import atomic_path, check_not_inputs, write_json, write_text


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


def test_what_a_killed_run_left_for_this_file_is_removed(tmp_path):
    target = tmp_path / "a[1].h5"  # brackets are a pattern's
    mine = tmp_path / f".partial-{'0' * 32}-a[1].h5"
    other = tmp_path / f".partial-{'0' * 32}-b.h5"
    for path in (mine, other):
        path.write_text("cut")
    write_text(target, "new")
    assert sorted(tmp_path.iterdir()) == sorted([other, target])


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


def test_two_runs_that_write_one_file_are_one_line(tmp_path):
    target = tmp_path / "a.txt"
    with (
        pytest.raises(DatasetError, match=r"a\.txt: another run writes this file at the same time"),
        atomic_path(target) as scratch,
    ):
        scratch.write_text("first")
        write_text(target, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "second"


def test_a_file_that_is_read_is_not_written_over(tmp_path):
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    check_not_inputs([tmp_path / "b.h5"], [tmp_path / "a.h5", None])
    for same in (tmp_path / "a.h5", tmp_path / "x/../a.h5", tmp_path / "link.h5"):
        with pytest.raises(DatasetError, match="is read by this command, and would be lost"):
            check_not_inputs([tmp_path / "b.h5", same], [tmp_path / "a.h5"])
