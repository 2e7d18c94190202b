"""Stages of a run as its jobs start and end: how much is done, how fast, how long it takes yet."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.plan.rules import order_of, stage_of

# The rule whose only job is to ask for all results.
TARGET = "all"


@dataclass
class RunningJob:
    """A job that has started.

    Attributes:
        stage: Name of its stage.
        label: Words that tell it from others of its stage.
        slides: Number of slides it goes through; 0 for a job of the whole study.
        log: Its log file, to which its command writes a line for each slide; None: none.
        begun: Time when it started, seconds since the epoch.
    """

    stage: str
    label: str
    slides: int
    log: Path | None
    begun: float
    _read: int = 0
    _lines: int = 0

    def slides_done(self) -> int:
        """Slides that are done so far, by the lines of the log; read on from the last call."""
        if self.log is None or self.slides < 2:
            return 0
        try:
            with self.log.open("rb") as file:
                # A log of an earlier run is there until the job's command replaces it.
                if os.fstat(file.fileno()).st_mtime < int(self.begun):
                    return 0
                file.seek(self._read)
                new = file.read()
        except OSError:
            return 0
        # A line that is still being written is read when it is whole.
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        start = f"{self.stage} ".encode()
        self._lines += sum(line.startswith(start) for line in whole.splitlines())
        # The last slide counts when the job has ended.
        return min(self._lines, self.slides - 1)


@dataclass
class Stage:
    """A stage of a run.

    Attributes:
        name: Name of the stage, such as `tile`.
        jobs: Number of its jobs.
        slides: Number of slides in these jobs; 0 where jobs are not counted by slides.
        jobs_done: Jobs that have ended well.
        slides_done: Slides of these jobs.
        failures: Numbers of the jobs that have failed.
        begun: Time when its first job started; None: not yet.
        ended: Time when its last job ended; None: not yet.
    """

    name: str
    jobs: int = 0
    slides: int = 0
    jobs_done: int = 0
    slides_done: int = 0
    failures: set[int] = field(default_factory=set)
    begun: float | None = None
    ended: float | None = None

    @property
    def failed(self) -> int:
        """Number of jobs that have failed."""
        return len(self.failures)

    @property
    def unit(self) -> str:
        """What is counted: `slides` or `jobs`."""
        return "slides" if self.slides else "jobs"

    @property
    def total(self) -> int:
        """Number of slides, or of jobs."""
        return self.slides or self.jobs

    @property
    def done(self) -> int:
        """Slides, or jobs, of the jobs that have ended well."""
        return self.slides_done if self.slides else self.jobs_done

    def seconds(self, now: float) -> float:
        """Time from the start of the stage to its end, or until now; 0 before its start."""
        return 0.0 if self.begun is None else max(0.0, (self.ended or now) - self.begun)


@dataclass
class Run:
    """The stages of a run and the jobs that run now."""

    stages: dict[str, Stage] = field(default_factory=dict)
    running: dict[int, RunningJob] = field(default_factory=dict)

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Take over the number of jobs by rule."""
        for rule in sorted(jobs, key=order_of):
            if rule not in (TARGET, "total"):
                self._stage(stage_of(rule)).jobs += jobs[rule]

    def count_slides(self, slides: Mapping[str, int]) -> None:
        """Take over the number of slides in all jobs of a rule, by rule; 0 counts by jobs."""
        for rule, number in slides.items():
            if rule != TARGET:
                self._stage(stage_of(rule)).slides += number

    def _stage(self, name: str) -> Stage:
        return self.stages.setdefault(name, Stage(name))

    def start(
        self, number: int, rule: str, label: str, slides: int, logs: Sequence[str], now: float
    ) -> Stage | None:
        """Note a job that starts.

        Args:
            number: Snakemake's number of the job.
            rule: Name of its rule.
            label: Words that tell it from others of its rule.
            slides: Number of slides it goes through.
            logs: Its log files.
            now: Time, seconds since the epoch.

        Returns:
            The stage that begins with this job; None if it had begun.
        """
        if rule == TARGET:
            return None
        stage = self._stage(stage_of(rule))
        log = Path(logs[0]) if logs else None
        # Snakemake may try a job again.
        stage.failures.discard(number)
        self.running[number] = RunningJob(stage.name, label, slides, log, now)
        if stage.begun is not None:
            return None
        stage.begun = now
        return stage

    def finish(self, number: int, now: float) -> Stage | None:
        """Note a job that has ended well.

        Returns:
            The stage that ends with this job; None if others are to come.
        """
        job = self.running.pop(number, None)
        if job is None:
            return None
        stage = self._stage(job.stage)
        stage.jobs_done += 1
        stage.slides_done += job.slides
        if stage.jobs_done + stage.failed < stage.jobs:
            return None
        stage.ended = now
        return stage

    def fail(self, number: int, *, stopped: bool = False) -> RunningJob | None:
        """Note a job that has failed, or was stopped, and return it; None if it is not known."""
        job = self.running.pop(number, None)
        if job is not None and not stopped:
            self._stage(job.stage).failures.add(number)
        return job

    def done_by_now(self) -> dict[str, int]:
        """Slides, or jobs, done by stage, slides of jobs that still run included."""
        done = {name: stage.done for name, stage in self.stages.items()}
        # Jobs start and end in another thread than the one that draws.
        for job in list(self.running.values()):
            if self.stages[job.stage].slides:
                done[job.stage] += job.slides_done()
        return done
