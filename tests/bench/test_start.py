"""Benchmarks of start-up and of the pipeline: what is counted, and what is refused."""

import sys

import pytest
from typer.main import get_command

from mil.bench import import_clock, pipeline, start
from mil.bench.import_clock import ImportClock
from mil.bench.small_study import SCRATCH, study_commands, timed_commands
from mil.cli import app
from mil.errors import MilError
from tests.messages import one_line


def test_an_import_within_an_import_is_counted_once(monkeypatch):
    monkeypatch.setattr(import_clock, "process_time", lambda: 1.0)
    clock = ImportClock()
    inner = clock.wrap(lambda: "inner")
    outer = clock.wrap(lambda: inner())
    monkeypatch.setattr(import_clock, "process_time", iter([10.0, 11.0, 13.0]).__next__)
    assert outer() == "inner"
    assert clock.seconds == 1.0 + 3.0


def test_the_least_of_the_repeats_counts(tmp_path, monkeypatch):
    times = iter([{"imports_s": 0.5, "all_s": 0.9}, {"imports_s": 0.4, "all_s": 0.7}])
    monkeypatch.setattr(start, "command_times", lambda *_: next(times))
    row = start._row(tmp_path, "tile", [], repeats=2)
    assert row == {
        "command": "tile",
        "imports_s": 0.4,
        "work_s": pytest.approx(0.3),
        "all_s": 0.7,
        "bar_s": "0.8",
    }


def test_commands_have_the_options_that_they_are_called_with():
    commands = get_command(app).commands
    assert set(study_commands()) == set(timed_commands())
    for listed in (study_commands(), timed_commands()):
        for name, arguments in listed.items():
            options = [word for word in arguments if word.startswith("--")]
            known = {flag for option in commands[name].params for flag in option.opts}
            assert set(options) <= known, name
    # A finished head would be kept, and nothing be trained.
    assert timed_commands()["train"][-1].startswith(SCRATCH)


def test_a_command_that_fails_is_one_line(tmp_path):
    failing = [sys.executable, "-S", "-c", "raise SystemExit('no such slide')"]
    with one_line(MilError, "failed: no such slide"):
        pipeline.measure(failing, tmp_path, {})


def test_a_rival_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None if name == "hs2p" else True)
    with one_line(MilError, r"compares with hs2p, not installed .*\[rival\]"):
        pipeline.run(cores=1, repeats=1)


def test_a_run_counts_the_processor_time_of_its_processes(tmp_path):
    usage = pipeline.measure([sys.executable, "-S", "-c", "sum(range(10**5))"], tmp_path, {})
    assert usage.processor > 0
    assert usage.clock > 0
    fast, slow = pipeline.Usage(1.0, 9.0), pipeline.Usage(2.0, 3.0)
    assert pipeline._row("mil", [slow, fast], 8)["processor_s"] == 1.0
