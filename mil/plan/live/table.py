"""Live table of a run: stage by stage what is done, the rate and the time left."""

import time
from collections.abc import Callable

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mil.plan.live.stages import Run, Stage
from mil.plan.live.text import duration, rate, time_left

BAR_WIDTH = 20


class LiveTable:
    """A run as a table that is drawn anew whenever it is shown.

    Args:
        run: The run.
        clock: Function that returns the time, seconds since the epoch.
    """

    def __init__(self, run: Run, clock: Callable[[], float] = time.time) -> None:
        self.run = run
        self.clock = clock
        self.begun = clock()

    def __rich__(self) -> Table:
        now = self.clock()
        done = self.run.done_by_now()
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("stage", no_wrap=True)
        table.add_column("", no_wrap=True)
        for title in ("done", "rate", "time", "left", ""):
            table.add_column(title, justify="right", no_wrap=True)
        stages = list(self.run.stages.values())
        for stage in stages:
            table.add_row(*_row(stage, done[stage.name], now))
        jobs_done = sum(stage.jobs_done for stage in stages)
        jobs = sum(stage.jobs for stage in stages)
        bar = ProgressBar(total=max(jobs, 1), completed=jobs_done, width=BAR_WIDTH)
        whole = (f"{jobs_done}/{jobs} jobs", "", duration(now - self.begun), "", "")
        table.add_row("all", bar, *whole, style="bold")
        return table


def _row(stage: Stage, done: int, now: float) -> tuple[str | Text | ProgressBar, ...]:
    seconds = stage.seconds(now)
    is_running = stage.begun is not None and stage.ended is None
    return (
        stage.name,
        ProgressBar(total=max(stage.total, 1), completed=done, width=BAR_WIDTH),
        f"{done}/{stage.total} {stage.unit}",
        rate(stage, done, seconds),
        "" if stage.begun is None else duration(seconds),
        time_left(done, stage.total, seconds) if is_running else "",
        Text(f"{stage.failed} failed", style="red") if stage.failed else "",
    )
