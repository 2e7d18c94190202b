"""A list of slides in one process: outputs that are current stay, a failure stops no other."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import typer

from mil.errors import MilError, some
from mil.io.atomic import write_json
from mil.io.provenance import made_from
from mil.io.tables import write_csv
from mil.io.whole import is_whole
from mil.progress import progress

# Columns of the table of a part.
COLUMNS = ("slide", "made_from")
# Ending of the file beside a table that holds the seconds of each slide. Not a column of
# the table: it stays when Snakemake removes the table, and a slide that is made again in
# another time changes no file that others depend on.
TIMES = ".times"


class Output(NamedTuple):
    """An output of a slide, and the digest of all that it depends on.

    Attributes:
        path: HDF5 file or PNG that carries the digest; of several files the last written.
        digest: See `mil.io.provenance.digest_of`.
        beside: Further files of the same output.
    """

    path: Path
    digest: str
    beside: tuple[Path, ...] = ()

    @property
    def current(self) -> bool:
        """Whether the output is there, undamaged, and made from what it depends on now."""
        if made_from(self.path) != self.digest or not is_whole(self.path):
            return False
        return all(file.exists() for file in self.beside)


@runtime_checkable
class SlideJob(Protocol):
    """The outputs to make for a slide."""

    @property
    def slide(self) -> str:
        """Id of the slide."""

    def outputs(self) -> Sequence[Output]:
        """Outputs as they should be."""


class SlideResult(NamedTuple):
    """Result of a slide's job.

    Attributes:
        slide: Id of the slide.
        line: A line for the user; empty where all outputs stay as they are.
        digests: Digest of each output; none for a slide that failed.
        seconds: Wall-clock time of its outputs; None where they stay as they are.
    """

    slide: str
    line: str
    digests: tuple[str, ...]
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        """Whether the slide lacks an output."""
        return not self.digests


Job = TypeVar("Job", bound=SlideJob)
# Makes the outputs of a job that are not current, and returns a line about them.
Make = Callable[[Job, Sequence[Output]], str]


def run_jobs(
    title: str, jobs: Sequence[Job], make: Make[Job], *, keep: bool = True
) -> Iterator[SlideResult]:
    """Make the outputs that are missing or not current, one slide after another.

    Args:
        title: Name of the stage, for the progress bar.
        jobs: Jobs, one for each slide.
        make: Function that makes outputs of a job and returns a line about them.
        keep: Whether outputs that are current stay; else all are made.

    Yields:
        A result for each slide, as soon as its outputs are there.
    """
    with progress(title, len(jobs), "slides") as advance:
        for job in jobs:
            result = _run(job, make, keep=keep)
            advance(1, "" if result.line else "current")
            yield result


def pull_jobs(
    title: str, jobs: Sequence[Job], makers: Sequence[Make[Job]], *, keep: bool = True
) -> Iterator[SlideResult]:
    """Make outputs as `run_jobs` does, by several makers at a time, such as one for each GPU.

    A maker takes the next job as soon as it is free, so that a slow slide holds back no
    other.

    Args:
        title: Name of the stage, for the progress bar.
        jobs: Jobs, one for each slide.
        makers: Functions that make outputs of a job; each has one job at a time.
        keep: Whether outputs that are current stay; else all are made.

    Yields:
        A result for each slide, as soon as its outputs are there, in any order.
    """
    waiting = deque(jobs)
    done: SimpleQueue[SlideResult | BaseException] = SimpleQueue()

    def pull(make: Make[Job]) -> None:
        try:
            while True:
                try:
                    job = waiting.popleft()
                except IndexError:
                    return
                done.put(_run(job, make, keep=keep))
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            done.put(error)

    with progress(title, len(jobs), "slides") as advance, ThreadPoolExecutor(len(makers)) as pool:
        for make in makers:
            pool.submit(pull, make)
        try:
            for _ in jobs:
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                advance(1, "" if result.line else "current")
                yield result
        finally:
            # After an error the others end with the slide that they have in hand.
            waiting.clear()


def _run(job: Job, make: Make[Job], *, keep: bool) -> SlideResult:
    try:
        outputs = job.outputs()
        stale = [output for output in outputs if not (keep and output.current)]
        started = time.monotonic()
        line = make(job, stale) if stale else ""
        seconds = time.monotonic() - started if stale else None
        return SlideResult(job.slide, line, tuple(output.digest for output in outputs), seconds)
    # Anything else, such as a full disk, would stop the other slides too.
    except MilError as error:
        return SlideResult(job.slide, str(error), ())


def finish(
    stage: str,
    results: Iterable[SlideResult],
    tables: Sequence[Path],
    jobs: Sequence[SlideJob] = (),
) -> None:
    """Print a line for each slide as it is done, and write the tables of the part.

    Args:
        stage: Name of the stage, the first word of a line.
        results: Results of the slides of a part, as they come.
        tables: CSV for each output, or none: a row for each slide, with the digest of its
            output.
        jobs: Jobs in the order of the tables' rows; none: rows are in that of the results.

    Raises:
        MilError: A slide failed, and no table is written.
    """
    complete = []
    for result in results:
        if result.line:
            typer.echo(f"{stage} {result.line}", err=result.failed)
        complete.append(result)
    current = sum(not result.line for result in complete)
    if current:
        typer.echo(f"{stage}: {current} of {len(complete)} slides are current")
    failed = [result for result in complete if result.failed]
    if failed:
        # The last line of the log, which is what a run shows of a job that failed.
        others = some([result.slide for result in failed[1:]])
        also = f"; also {others}" if others else ""
        raise MilError(
            f"{stage}: {len(failed)} of {len(complete)} slides failed: {failed[0].line}{also}"
        )
    position = {job.slide: number for number, job in enumerate(jobs)}
    complete.sort(key=lambda result: position.get(result.slide, 0))
    for number, table in enumerate(tables):
        rows: list[dict[str, Any]] = [
            {"slide": result.slide, "made_from": result.digests[number]} for result in complete
        ]
        write_csv(table, rows, COLUMNS)
        _add_times(table, complete)


def times_path(table: Path) -> Path:
    """File beside the table of a part that holds the seconds of each slide."""
    return table.with_suffix(TIMES)


def read_times(path: Path) -> dict[str, float]:
    """Wall-clock seconds by slide; empty where the file is missing or not ours."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(stored, dict):
        return {}
    numbers = {str(name): value for name, value in stored.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if 0 <= value < float("inf")}


def _add_times(table: Path, results: Sequence[SlideResult]) -> None:
    """Write the seconds of slides; of slides that stayed as they are, those of the last time."""
    path = times_path(table)
    before = read_times(path)
    times = {}
    for result in results:
        seconds = before.get(result.slide) if result.seconds is None else result.seconds
        if seconds is not None:
            times[result.slide] = round(seconds, 3)
    if times != before:
        write_json(path, times)
