"""Stages of a run, from the starts and ends of its jobs."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mil.plan.live.stages import Run
from mil.plan.live.table import LiveTable
from mil.plan.live.text import (
    begin_line,
    duration,
    end_line,
    error_of,
    killed_error,
    no_message,
    rate,
    time_left,
    was_stopped,
)


@pytest.fixture
def run() -> Run:
    """Two tile jobs of 3 and 5 slides, and a training; the clock begins at 1000 s."""
    run = Run()
    run.plan({"all": 1, "train": 1, "tile": 2, "total": 4})
    run.count_slides({"all": 0, "train": 0, "tile": 8})
    return run


def test_stages_stand_in_the_order_of_a_study(run):
    assert [(stage.name, stage.total, stage.unit) for stage in run.stages.values()] == [
        ("tile", 8, "slides"),
        ("train", 1, "jobs"),
    ]


def test_rules_of_several_encoders_are_one_stage():
    run = Run()
    run.plan({"features": 1, "features_a_b": 2})
    assert [(stage.name, stage.jobs) for stage in run.stages.values()] == [("features", 3)]


def test_a_stage_begins_and_ends_once(run):
    first = run.start(1, "tile", "1of2", 3, [], 1000.0)
    assert first is run.stages["tile"]
    assert run.start(2, "tile", "2of2", 5, [], 1001.0) is None
    assert run.finish(1, 1003.0) is None
    assert first.done == 3
    assert run.finish(2, 1010.0) is first
    assert (first.done, first.seconds(2000.0)) == (8, 10.0)
    assert run.start(3, "all", "", 0, [], 1011.0) is None
    assert run.finish(3, 1011.0) is None


def test_a_job_that_failed_and_is_tried_again_has_not_failed(run):
    run.start(1, "tile", "1of2", 3, [], 1000.0)
    assert run.fail(1).label == "1of2"
    assert run.stages["tile"].failed == 1
    run.start(1, "tile", "1of2", 3, [], 1001.0)
    assert run.stages["tile"].failed == 0
    assert run.fail(99) is None


def test_slides_of_a_running_job_are_counted_in_its_log(run, tmp_path):
    log = tmp_path / "tile.log"
    log.write_text("tile a: ok\nmil: a warning\ntile b: o")
    os.utime(log, (1002, 1002))
    run.start(1, "tile", "1of2", 3, [str(log)], 1000.5)
    assert run.done_by_now() == {"tile": 1, "train": 0}
    with log.open("a") as file:
        file.write("k\ntile c: ok\n")
    # The third of three counts once the job has ended.
    assert run.done_by_now() == {"tile": 2, "train": 0}
    run.finish(1, 1004.0)
    assert run.done_by_now() == {"tile": 3, "train": 0}


def test_a_log_of_an_earlier_run_is_not_counted(run, tmp_path):
    log = tmp_path / "tile.log"
    log.write_text("tile a: ok\n")
    os.utime(log, (900, 900))
    run.start(1, "tile", "1of2", 3, [str(log)], 1000.0)
    assert run.done_by_now()["tile"] == 0
    log.unlink()
    assert run.done_by_now()["tile"] == 0


def test_lines_of_a_stage(run):
    tile = run.stages["tile"]
    assert begin_line(tile) == "tile: begins, 8 slides in 2 jobs"
    assert begin_line(run.stages["train"]) == "train: begins, 1 job"
    run.start(1, "tile", "1of2", 3, [], 1000.0)
    run.start(2, "tile", "2of2", 5, [], 1000.0)
    run.finish(1, 1012.0)
    assert end_line(tile, 1012.0) == "tile: 3 of 8 slides done in 0:12, 15 slides/min"
    run.fail(2)
    assert end_line(tile, 1012.0) == "tile: 3 of 8 slides done, 1 job failed in 0:12, 15 slides/min"
    run.start(2, "tile", "2of2", 5, [], 1012.0)
    run.finish(2, 1004.0)
    assert end_line(tile, 1012.0) == "tile: ends, 8 slides in 0:04, 2 slides/s"


def test_durations_and_time_left(run):
    assert [duration(s) for s in (0, 7.4, 750, 3723)] == ["0:00", "0:07", "12:30", "1:02:03"]
    assert time_left(2, 8, 10.0) == "0:30"
    assert time_left(0, 8, 10.0) == time_left(8, 8, 10.0) == ""
    assert rate(run.stages["train"], 1, 10.0) == ""


def test_the_table_shows_done_rate_time_and_time_left(run):
    run.start(1, "tile", "1of2", 3, [], 1000.0)
    run.start(2, "tile", "2of2", 5, [], 1000.0)
    run.finish(1, 1012.0)
    run.start(3, "train", "abmil", 0, [], 1012.0)
    run.fail(3)
    table = LiveTable(run, clock=lambda: 1024.0)
    table.begun = 1000.0
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    rows = [line.replace("━", "").replace("╸", "").split() for line in _lines(console)]
    assert rows == [
        ["stage", "done", "rate", "time", "left"],
        ["tile", "3/8", "slides", "7.5", "slides/min", "0:24", "0:40"],
        ["train", "0/1", "jobs", "0:12", "1", "failed"],
        ["all", "1/3", "jobs", "0:24"],
    ]


def _lines(console: Console) -> list[str]:
    return [line for line in console.export_text().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("tile a: ok\nmil: tile: b: no\nat last\n", "mil: tile: b: no"),
        ("mil: 2 slides cannot be used\n  a  no_mpp\n", "mil: 2 slides cannot be used"),
        ("Traceback\n  File\nValueError: \x1b[31mred\n\n", "ValueError: [31mred"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_error_of_a_log(tmp_path, log, error):
    file = tmp_path / "a.log"
    file.write_text(log)
    assert error_of(file) == error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Command 'x' died with <Signals.SIGKILL: 9>.", "killed by SIGKILL: the machine may be"),
        ("Command 'x' returned non-zero exit status 137.", "killed by SIGKILL: the machine may be"),
        ("Command 'x' returned non-zero exit status 139.", "killed by SIGSEGV: a crash; run again"),
        ("Command 'x' returned non-zero exit status 1.", ""),
        ("Command 'x' returned non-zero exit status 130.", ""),
        ("Command 'x' returned non-zero exit status 199.", ""),
    ],
)
def test_a_job_that_a_signal_ended(text, error):
    assert killed_error(text).startswith(error)
    assert bool(killed_error(text)) == bool(error)


def test_a_job_on_a_full_disk_has_no_room_for_its_error(tmp_path, monkeypatch):
    log = tmp_path / "a.log"
    assert no_message(log) == "no message"
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=3, f_frsize=4096))
    assert no_message(log) == (f"mil: No space left on device: '{log}'; free some space there")


def test_a_log_that_is_not_there_has_no_error():
    assert error_of(Path("no.log")) == ""
    assert was_stopped("Aborted!")
    assert not was_stopped("mil: Aborted!")
