"""Words of a run: durations, rates, a line for a stage, the error of a job."""

import os
import re
from pathlib import Path
from signal import Signals

from mil.plan.live.stages import Stage
from mil.text import clean

# Of a log, the end alone is read: an error stands there.
TAIL_BYTES = 1 << 16
# Most seconds between the clocks of a cluster's machines and of its disk.
CLOCKS_S = 60
# A message of one line may quote a stranger's file.
MOST_CHARACTERS = 500
# A disk with less room has none for an error: logs are short.
ROOM_BYTES = 1 << 14
# How Snakemake tells that a signal ended a job: the shell's status is 128 and its number.
BY_SIGNAL = re.compile(r"died with <Signals\.(?P<name>\w+)|exit status (?P<status>1[2-9]\d)\b")
STATUS_OF_SIGNAL = 128
CAUSES = {
    "SIGKILL": (
        "the machine may be short of memory; free some or run fewer jobs at a time (--cores), "
        "then run again"
    ),
    "SIGTERM": "ended from outside, as by a scheduler; run again",
}
CRASHED = "a crash; run again, and report it with the log if it comes back"
SLURM_STATE = re.compile(r"SLURM-job '\w+' failed, SLURM status is: '(\w+)'")
# Last lines of a command that the user, or Snakemake, stopped.
STOPPED = ("Aborted!", "Aborted.", "KeyboardInterrupt")


def duration(seconds: float) -> str:
    """Time as hours, minutes and seconds: `0:07`, `12:30`, `1:02:03`."""
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes_left:02}:{seconds_left:02}"
    return f"{minutes_left}:{seconds_left:02}"


def rate(stage: Stage, done: int, seconds: float) -> str:
    """Rate, a second or a minute, whichever is the better number; empty where there is none."""
    if not done or seconds <= 0 or stage.total == 1:
        return ""
    unit = stage.unit
    in_second = done / seconds
    if in_second < 1:
        return f"{60 * in_second:.3g} {unit}/min"
    return f"{in_second:.3g} {unit}/s"


def time_left(done: int, total: int, seconds: float) -> str:
    """Time that the rest takes if it goes on at the mean rate so far; empty before there is any."""
    if not done or done >= total:
        return ""
    return duration(seconds * (total - done) / done)


def begin_line(stage: Stage) -> str:
    """Line for a stage that begins, such as `tile: begins, 32 slides in 4 jobs`."""
    jobs = _count(stage.jobs, "jobs")
    if not stage.slides:
        return f"{stage.name}: begins, {jobs}"
    return f"{stage.name}: begins, {_count(stage.slides, 'slides')} in {jobs}"


def end_line(stage: Stage, now: float) -> str:
    """Line for a stage that ends, or that a run leaves unfinished."""
    seconds = stage.seconds(now)
    failed = f", {_count(stage.failed, 'jobs')} failed" if stage.failed else ""
    how_fast = rate(stage, stage.done, seconds)
    at_rate = f", {how_fast}" if how_fast else ""
    whole = stage.done >= stage.total
    number = _count(stage.total, stage.unit)
    done = f"ends, {number}" if whole else f"{stage.done} of {number} done"
    return f"{stage.name}: {done}{failed} in {duration(seconds)}{at_rate}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun if number != 1 else noun.removesuffix('s')}"


def error_of(log: Path, begun: float = 0.0) -> str:
    """Error in the log of a failed job, on one line; empty if there is none.

    It is the last line that `mil` marks as an error, else the last line, which is where a
    traceback names the exception.

    Args:
        log: The log file.
        begun: Time when the job started, seconds since the epoch.
    """
    try:
        with log.open("rb") as file:
            # Of an earlier run: this one's job ended before its command began.
            if os.fstat(file.fileno()).st_mtime < begun - CLOCKS_S:
                return ""
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            tail = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [" ".join(clean(line).split()) for line in tail.splitlines()]
    lines = [line for line in lines if line]
    ours = [line for line in lines if line.startswith("mil: ")]
    return (ours or lines or [""])[-1][:MOST_CHARACTERS]


def no_message(log: Path) -> str:
    """What is shown of a job without an error: where the disk is full, it could not say more."""
    try:
        disk = os.statvfs(log.parent)
    except OSError:
        return "no message"
    if disk.f_bavail * disk.f_frsize >= ROOM_BYTES:
        return "no message"
    return f"mil: No space left on device: {str(log)!r}; free some space there"


def killed_error(text: str) -> str:
    """Error of a job whose process a signal ended, on one line; empty where none did.

    Args:
        text: What Snakemake says of the job's command.
    """
    match = BY_SIGNAL.search(text)
    if match is None:
        return ""
    name = match["name"] or _name_of_signal(int(match["status"]) - STATUS_OF_SIGNAL)
    # Ctrl-C is no fault of the job.
    if name in ("", "SIGINT"):
        return ""
    return f"killed by {name}: {CAUSES.get(name, CRASHED)}"


def _name_of_signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return ""


def error_on_slurm(error: str, message: str | None) -> str:
    """Error of a job, or Slurm's state of it where that says more.

    Args:
        error: Error in the job's log; empty if there is none.
        message: Words of Snakemake's plug-in for Slurm, if it ran the job.
    """
    state = SLURM_STATE.match(message or "")
    # A job that was killed has no last words; the end of its log is progress.
    if state is None or (error and state[1] == "FAILED"):
        return error
    return f"Slurm ended the job: {state[1]}"


def was_stopped(error: str) -> bool:
    """Whether the last words of a job say that it was stopped from outside."""
    return error in STOPPED
