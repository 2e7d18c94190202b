# What the workflow itself says of a run, through Snakemake's log: the table of a run (`mil.plan.live`) takes it from there.
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from mil.plan.exits import exit_on_error
from mil.plan.limits import check_limits
from mil.plan.rules import ENDING_RECORD, SLIDES_RECORD

# The report lists all slides.
SUMMARY = (
    f"mil summary --dataset {CONFIG.dataset} {flags.state_flags(PLAN)} --most 10 2>&1"
)


def announce_gpu():
    """Log whether jobs ask for a GPU, where the nodes of a cluster decided it."""
    executor = workflow.executor_plugin.name
    if CONFIG.device != "auto" or executor in ("local", "dryrun", "touch"):
        return
    asks = "jobs ask for a GPU" if use_gpu() else "no job asks for a GPU"
    logger.info(f"device=auto: {asks}; device=cpu or device=gpu decides otherwise")


def check_arrays():
    """Refuse limits of the jobs that run at a time, if jobs are submitted as arrays."""
    jobs = workflow.global_resources["_nodes"].value
    rate = workflow.scheduling_settings.max_jobs_per_timespan
    with exit_on_error():
        check_limits(
            getattr(workflow.executor_settings, "array_jobs", None),
            jobs=None if jobs == sys.maxsize else jobs,
            rate=None if rate is None else rate.max_jobs,
            resources=[name for name in workflow.global_resources if name[0] != "_"],
        )


def keep_empty_folders():
    """Let a run on a disk that can no longer be written to end in its last lines, not in a traceback."""
    # Snakemake removes folders in which no job has put anything.
    remove = workflow.dag.cleanup_workdir

    def remove_if_possible():
        with suppress(OSError):
            remove()

    workflow.dag.cleanup_workdir = remove_if_possible


def log_slides():
    """Log the number of slides that the jobs of each rule go through; shown by the table alone."""
    slides = Counter()
    for job in workflow.dag.needrun_jobs():
        slides[job.rule.name] += int(job.resources.get("slides") or 0)
    logger.info("", extra={SLIDES_RECORD: dict(slides)})


def log_ending(report=None):
    """Log slides in and out, what was lost and why, and where the report is."""
    # A damaged bag ends the command with a line that stands in place of its own.
    lines = [shell("{SUMMARY} || true", read=True).rstrip()]
    if report is not None and Path(report).exists():
        lines.append(f"report: {report}")
    logger.info("\n".join(lines), extra={ENDING_RECORD: True})
