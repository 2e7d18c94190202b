"""The logger plug-in, from events as Snakemake logs them to lines and the table."""

import io
import logging
import os
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from mil.plan.live import LogHandler
from mil.plan.plugins import register_logger
from mil.plan.rules import ENDING_RECORD, SLIDES_RECORD


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shown:
    """A handler, and what it has written so far."""

    def __init__(self, stream: io.StringIO, monkeypatch, **settings) -> None:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("TERM", "xterm")
        # The handler turns it off.
        monkeypatch.setattr("logging.raiseExceptions", True)
        usual = dict.fromkeys(
            ("printshellcmds", "nocolor", "debug_dag", "verbose", "show_failed_logs", "stdout"),
            False,
        )
        self.stream = stream
        self.handler = LogHandler(
            SimpleNamespace(**{**usual, "quiet": set(), "dryrun": False, **settings}), None
        )
        self.handler.setFormatter(logging.Formatter("%(message)s"))

    def log(self, message: str | None, event: LogEvent | None = None, level=logging.INFO, **extra):
        record = logging.LogRecord("snakemake", level, "", 1, message, (), None)
        record.__dict__.update({"event": event} if event else {}, **extra)
        self.handler.emit(record)

    def plan(self) -> None:
        stats = {"all": 1, "tile": 2, "train": 1, "total": 4}
        self.log("Job stats:", LogEvent.RUN_INFO, stats=stats)
        self.log("", **{SLIDES_RECORD: {"tile": 8}})

    def start(self, number: int, rule: str, slides: int = 0, log: str = "a.log", **wildcards):
        self.log(
            f"rule {rule}",
            LogEvent.JOB_INFO,
            jobid=number,
            rule_name=rule,
            wildcards={"dataset": "toy", **wildcards},
            resources={"slides": slides},
            log=[log],
        )

    def finish(self, number: int) -> None:
        self.log("Finished", LogEvent.JOB_FINISHED, job_id=number)

    def fail(self, number: int, rule: str, log: str) -> None:
        self.log(
            "Error", LogEvent.JOB_ERROR, logging.ERROR, jobid=number, rule_name=rule, log=[log]
        )

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def shown(monkeypatch) -> Shown:
    return Shown(io.StringIO(), monkeypatch)


def test_without_a_terminal_there_is_a_line_a_stage(shown):
    shown.log("Building DAG of jobs...")
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.start(2, "tile", 5, part="2of2")
    shown.log("Select jobs to execute...")
    shown.finish(1)
    shown.finish(2)
    assert [line.partition(" in 0:")[0] for line in shown.lines] == [
        "tile: begins, 8 slides in 2 jobs",
        "tile: ends, 8 slides",
    ]


def test_a_failed_job_is_shown_once_with_its_error_and_log(shown, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("tile a: ok\nmil: no room on the disk\n")
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.log("Command returned non-zero exit status 1.", LogEvent.ERROR, logging.ERROR)
    shown.fail(1, "tile", str(log))
    shown.log("Exiting because a job execution failed. Look above", level=logging.ERROR)
    shown.log("8 in, 0 out", **{ENDING_RECORD: True})
    shown.log(
        "WorkflowError:\nAt least one job did not complete successfully.",
        LogEvent.ERROR,
        logging.ERROR,
    )
    shown.log("Complete log(s): b.log")
    assert shown.lines == [
        "tile: begins, 8 slides in 2 jobs",
        "tile 1of2 failed: mil: no room on the disk",
        f"  log: {log}",
        "tile: 0 of 8 slides done, 1 job failed in 0:00",
        "8 in, 0 out",
        "1 job failed; once the cause is mended, the same command continues",
        "Complete log(s): b.log",
    ]


def test_a_killed_job_is_not_shown_by_its_last_line(shown, tmp_path):
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    for log in logs:
        log.write_text("tile a: ok\n")
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.start(2, "tile", 5, part="2of2")
    for log, status in zip(logs, (137, 1), strict=True):
        text = f"Command 'mil tile > {log} 2>&1' returned non-zero exit status {status}."
        shown.log(text, LogEvent.ERROR, logging.ERROR)
    for number, log in enumerate(logs, 1):
        shown.fail(number, "tile", str(log))
    first, _, second, _ = shown.lines[1:]
    assert first.startswith("tile 1of2 failed: killed by SIGKILL: the machine may be short of")
    assert second == "tile 2of2 failed: tile a: ok"


def _ends_by_ctrl_c(shown, log):
    log.write_text("tile a: ok\n")
    status = "Command 'mil tile' returned non-zero exit status 130."
    shown.log(status, LogEvent.ERROR, logging.ERROR)


def test_the_log_of_an_earlier_run_is_not_the_error_of_this_one(shown, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("mil: an old error\n")
    os.utime(log, (1, 1))
    shown.plan()
    shown.start(1, "tile", 4, log=str(log), part="1of2")
    shown.fail(1, "tile", str(log))
    assert shown.lines[1:] == ["tile 1of2 failed: no message", f"  log: {log}"]


def test_jobs_that_all_fail_alike_are_not_all_shown(shown, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("mil: no network\n")
    shown.plan()
    for number in range(30):
        shown.fail(number, "fetch", str(log))
    shown.fail(30, "tile", str(log))
    assert len(shown.lines) == 5 * 2 + 1 + 2
    assert shown.lines[10] == "further failures of fetch are in the complete log alone"
    assert shown.lines[11] == "tile failed: mil: no network"


@pytest.mark.parametrize(
    "end", [_ends_by_ctrl_c, lambda shown, log: log.write_text("tile a: ok\nAborted!\n")]
)
def test_after_ctrl_c_no_job_has_failed(shown, tmp_path, end):
    log = tmp_path / "a.log"
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.start(2, "train", log="b.log")
    end(shown, log)
    shown.fail(1, "tile", str(log))
    shown.log("Terminating processes on user request, this might take some time.")
    shown.fail(2, "train", "b.log")
    shown.log("8 in, 0 out", **{ENDING_RECORD: True})
    text = "\n".join(shown.lines)
    assert "failed" not in text
    assert shown.lines[-1] == "stopped; the same command continues"


def test_other_errors_and_warnings_are_shown(shown):
    shown.log("MissingInputException: a.tif", LogEvent.ERROR, logging.ERROR)
    shown.log("Building DAG of jobs is slow", level=logging.WARNING)
    shown.log("Nothing to be done (all requested files are present and up to date).")
    assert len(shown.lines) == 3


def test_arrays_of_slurm_are_not_lines_of_their_own(shown):
    shown.log("Submitted array job with Snakemake IDs 1,2 and SLURM job ID 7. The individual task")
    shown.log(
        "Array job submission does not allow for multiple different wildcard combinations in",
        level=logging.WARNING,
    )
    shown.log("Unable to guess SLURM account.", level=logging.WARNING)
    assert shown.lines == ["Unable to guess SLURM account."]


@pytest.mark.parametrize(
    ("state", "log", "error"),
    [
        ("OUT_OF_MEMORY", "tile a: ok\n", "Slurm ended the job: OUT_OF_MEMORY"),
        ("FAILED", "", "Slurm ended the job: FAILED"),
        ("FAILED", "mil: no room on the disk\n", "mil: no room on the disk"),
    ],
)
def test_a_job_that_slurm_killed_says_so(shown, tmp_path, state, log, error):
    (tmp_path / "a.log").write_text(log)
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.log(
        "Error",
        LogEvent.JOB_ERROR,
        logging.ERROR,
        jobid=1,
        rule_name="tile",
        log=[str(tmp_path / "a.log")],
        rule_msg=f"SLURM-job '5_1' failed, SLURM status is: '{state}'. Reason: Unknown.",
    )
    assert shown.lines[1] == f"tile 1of2 failed: {error}"


def test_a_dry_run_counts_jobs_and_lists_none(monkeypatch):
    shown = Shown(io.StringIO(), monkeypatch, dryrun=True, stdout=True)
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.finish(1)
    shown.plan()
    shown.log("This was a dry-run (flag -n).")
    assert shown.lines == [
        "Job stats:",
        "This was a dry-run (flag -n).",
        "jobs by reason: mil plan; each job with its files: snakemake -n -p",
    ]


@pytest.mark.parametrize("detail", ["printshellcmds", "verbose", "debug_dag"])
def test_who_asks_for_every_job_gets_all_that_snakemake_says(monkeypatch, detail):
    shown = Shown(_Terminal(), monkeypatch, **{detail: True})
    shown.log("Building DAG of jobs...")
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    assert shown.lines == ["Building DAG of jobs...", "Job stats:", "rule tile"]


def test_a_quiet_run_has_no_table(monkeypatch):
    quiet = [SimpleNamespace(name="PROGRESS"), SimpleNamespace(name="RULES")]
    shown = Shown(_Terminal(), monkeypatch, quiet=quiet)
    shown.log("", **{SLIDES_RECORD: {"tile": 8}})
    shown.log("Exiting because a job execution failed.", level=logging.ERROR)
    shown.log("8 in, 8 out", **{ENDING_RECORD: True})
    assert shown.lines == ["Exiting because a job execution failed.", "8 in, 8 out"]


def test_in_a_terminal_there_is_a_table_and_no_line_a_stage(monkeypatch):
    shown = Shown(_Terminal(), monkeypatch, nocolor=True)
    shown.plan()
    shown.start(1, "tile", 3, part="1of2")
    shown.finish(1)
    shown.log("8 in, 3 out", **{ENDING_RECORD: True})
    text = shown.stream.getvalue()
    assert "begins" not in text
    assert "3/8 slides" in text
    # The cursor is back, and the last words stand below the table.
    assert text.rindex("\x1b[?25h") < text.rindex("8 in, 3 out")
    shown.handler.close()


def test_snakemake_knows_the_logger_once_a_profile_asks():
    assert register_logger()
    assert register_logger()
    assert LoggerPluginRegistry().get_plugin("mil").log_handler is LogHandler


def test_without_the_interface_a_profile_names_no_logger(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "snakemake_interface_logger_plugins", None)
    monkeypatch.setitem(
        __import__("sys").modules, "snakemake_interface_logger_plugins.registry", None
    )
    assert not register_logger()
