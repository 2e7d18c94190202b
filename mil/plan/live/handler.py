"""Logger plug-in of Snakemake: its events as a table, or as lines."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from logging import Handler, LogRecord
from pathlib import Path

from rich.console import Console
from rich.live import Live
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from mil.plan.live.messages import BY_USER, DRY_RUN, is_aftermath, is_chatter
from mil.plan.live.stages import Run
from mil.plan.live.table import LiveTable
from mil.plan.live.text import (
    begin_line,
    end_line,
    error_of,
    error_on_slurm,
    killed_error,
    no_message,
    was_stopped,
)
from mil.plan.rules import ENDING_RECORD, SLIDES_RECORD

# With these, Snakemake's user asks for every job.
DETAILS = ("printshellcmds", "verbose", "debug_dag")
QUIET = {"ALL", "PROGRESS", "RULES"}
# Failed jobs of a rule that are shown: without a network or a disk, all fail alike.
SHOWN_FAILURES = 5
REFRESH_PER_SECOND = 1  # 7 ms of the processor each


class LogHandler(LogHandlerBase):
    """What a run shows, from the events that Snakemake logs.

    A dry run counts jobs. With `--printshellcmds`, `--verbose` or `--debug-dag`, all is as
    Snakemake writes it without this plug-in.
    """

    def __post_init__(self) -> None:
        # Snakemake's base class does this itself only since version 2 of the interface.
        Handler.__init__(self)
        # A log file on a full disk would print a traceback for each line.
        logging.raiseExceptions = False
        settings = self.common_settings
        stream = sys.stdout if settings.stdout else sys.stderr
        self.console = Console(file=stream, no_color=settings.nocolor or None, highlight=False)
        self.shows_table = stream.isatty() and not self.console.is_dumb_terminal
        self.shows_all = any(getattr(settings, name) for name in DETAILS)
        # Then Snakemake's filter keeps the events from us that stages are counted by.
        self.is_quiet = any(part.name in QUIET for part in settings.quiet or ())
        self.run = Run()
        self.live: Live | None = None
        self.stopped = False
        self.failures: Counter[str] = Counter()
        # What Snakemake said of commands that failed; it comes before the event of the job.
        self.aftermath: list[str] = []
        self.counted = False
        self.events: dict[LogEvent, Callable[[LogRecord], None]] = {
            LogEvent.RUN_INFO: self._plan,
            LogEvent.JOB_INFO: self._start,
            LogEvent.JOB_FINISHED: self._finish,
            LogEvent.JOB_ERROR: self._fail,
            LogEvent.GROUP_ERROR: self._show,
            LogEvent.ERROR: self._show_error,
            LogEvent.DEBUG_DAG: self._show,
        }

    @property
    def writes_to_stream(self) -> bool:
        """Whether it writes to standard error or output, in place of Snakemake's own handler."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Whether it writes a file; the log file is Snakemake's own."""
        return False

    @property
    def has_filter(self) -> bool:
        """Whether it has a filter; it takes Snakemake's, which minds `--quiet`."""
        return False

    @property
    def has_formatter(self) -> bool:
        """Whether it has a formatter; it takes Snakemake's for what it shows unchanged."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """Whether it needs the graph of rules."""
        return False

    def emit(self, record: LogRecord) -> None:
        """Show a message, or take an event over into the table."""
        try:
            if self.shows_all:
                self._show(record)
            elif hasattr(record, SLIDES_RECORD):
                self.run.count_slides(getattr(record, SLIDES_RECORD))
                self._open()
            elif hasattr(record, ENDING_RECORD):
                self._end(record)
            else:
                self._emit_event(record)
        # The run goes on without its table.
        except Exception:  # noqa: BLE001
            self.handleError(record)

    def _emit_event(self, record: LogRecord) -> None:
        event = getattr(record, "event", None)
        if event is not None:
            self.events.get(event, _ignore)(record)
        elif not is_chatter(record):
            self._show_error(record)

    def _show_error(self, record: LogRecord) -> None:
        """Show a message, but no error that only follows from that of a job."""
        self.stopped = self.stopped or BY_USER.match(str(record.msg)) is not None
        if self.is_quiet or not is_aftermath(record):
            self._show(record)
        else:
            self.aftermath.append(str(record.msg))

    def _show(self, record: LogRecord) -> None:
        """Show a message as Snakemake words it."""
        text = self.format(record)
        if text and text != "None":
            self._print(text)
        if str(record.msg).startswith(DRY_RUN) and not self.shows_all:
            self._print("jobs by reason: mil plan; each job with its files: snakemake -n -p")

    def _print(self, text: str, style: str | None = None) -> None:
        # Unwrapped: paths can then be copied.
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def _plan(self, record: LogRecord) -> None:
        # Snakemake counts the jobs of a dry run before and after it.
        if self.counted:
            return
        self.counted = True
        if self.common_settings.dryrun:
            self._show(record)
        else:
            self.run.plan(record.stats)  # type: ignore[attr-defined]

    def _open(self) -> None:
        if self.shows_table and not self.is_quiet and self.live is None:
            table = LiveTable(self.run)
            self.live = Live(
                get_renderable=lambda: table.__rich__(),
                console=self.console,
                refresh_per_second=REFRESH_PER_SECOND,
            )
            self.live.start()

    def _start(self, record: LogRecord) -> None:
        if self.common_settings.dryrun:
            return
        fields = record.__dict__
        wildcards = [value for name, value in fields["wildcards"].items() if name != "dataset"]
        stage = self.run.start(
            fields["jobid"],
            fields["rule_name"],
            " ".join(wildcards),
            int(fields["resources"].get("slides") or 0),
            fields["log"],
            record.created,
        )
        self._open()
        if stage is not None and self.live is None:
            self._print(begin_line(stage))

    def _finish(self, record: LogRecord) -> None:
        stage = self.run.finish(record.job_id, record.created)  # type: ignore[attr-defined]
        if stage is not None and self.live is None:
            self._print(end_line(stage, record.created))

    def _fail(self, record: LogRecord) -> None:
        fields = record.__dict__
        job = self.run.running.get(fields["jobid"])
        begun = job.begun if job else 0.0
        error = self._killed(fields["log"])
        if not error:
            error = error_of(Path(fields["log"][0]), begun) if fields["log"] else ""
        stopped = self.stopped or was_stopped(error)
        self.run.fail(fields["jobid"], stopped=stopped)
        if stopped:
            return
        rule = fields["rule_name"]
        self.failures[rule] += 1
        if self.failures[rule] > SHOWN_FAILURES:
            return
        name = f"{rule} {job.label if job else ''}".rstrip()
        logs = fields["log"] or ["."]
        error = error_on_slurm(error, fields.get("rule_msg")) or no_message(Path(logs[0]))
        self._print(f"{name} failed: {error}", style="red")
        self._print(f"  log: {', '.join(fields['log'])}")
        if self.common_settings.show_failed_logs:
            self._print(self.format(record))
        if self.failures[rule] == SHOWN_FAILURES:
            self._print(f"further failures of {rule} are in the complete log alone")

    def _killed(self, logs: Sequence[str]) -> str:
        """Error of a job whose process a signal ended; its log only says how far it came."""
        texts = [text for text in self.aftermath if any(log in text for log in logs)]
        return killed_error(texts[-1]) if texts else ""

    def _end(self, record: LogRecord) -> None:
        self._close()
        stages = self.run.stages.values()
        if not self.shows_table:
            for stage in stages:
                if stage.begun is not None and stage.ended is None:
                    self._print(end_line(stage, record.created))
        self._show(record)
        failed = sum(stage.failed for stage in stages)
        if self.stopped:
            self._print("stopped; the same command continues")
        elif failed:
            self._print(f"{_failed(failed)}; once the cause is mended, the same command continues")

    def _close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def close(self) -> None:
        """Leave the table as it is, and the terminal's cursor visible."""
        self._close()
        super().close()


def _ignore(record: LogRecord) -> None:
    pass


def _failed(number: int) -> str:
    return "1 job failed" if number == 1 else f"{number} jobs failed"
