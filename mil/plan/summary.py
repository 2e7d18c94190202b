"""`mil plan`: the jobs of a run, one line a rule, from Snakemake's dry run."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config.base import SHIPPED
from mil.errors import ConfigError, some
from mil.plan.rules import order_of

# Reasons as Snakemake words them, by what they mean for the user; the first that a job has
# counts: a missing result needs no other reason.
REASONS = {
    "Missing output files": "no result yet",
    "Forced execution": "forced",
    "Updated input files": "an input file is newer",
    "Params have changed": "its settings changed",
    "Code has changed": "its rule changed",
    "Set of input files": "other input files",
    "Input files updated": "follows from the jobs above",
}
OTHER_REASON = "see snakemake -n -p"
# Remedies by the message of Snakemake, which parses --config before it reads the Snakefile.
REMEDIES = {
    "Invalid config definition: Config entry must start with a valid identifier.": (
        " A setting of a section is written in braces: --config 'tile={mpp: 0.5}'"
    ),
}
FAILED = 5  # lines of Snakemake's output that are shown when it fails


class PlannedJob(NamedTuple):
    """A job of a dry run.

    Attributes:
        rule: Name of the rule.
        reason: Why it is run, in our words.
        part: Name of the part whose slides it goes through, such as `3of8`; empty for jobs
            of a study.
        num_slides: Number of these slides.
    """

    rule: str
    reason: str
    part: str = ""
    num_slides: int = 0


def plan_summary(arguments: Sequence[str]) -> str:
    """Table of the jobs that `snakemake` with the same arguments would run.

    Args:
        arguments: Arguments for snakemake, such as `--config dataset=mine`.

    Raises:
        ConfigError: Snakemake refuses the run; the message is its own.
    """
    return jobs_table(read_jobs(_dry_run(arguments).splitlines()))


def _dry_run(arguments: Sequence[str]) -> str:
    has_snakefile = any(re.match(r"-s|--snakefile", argument) for argument in arguments)
    is_here = any(Path(name).exists() for name in ("Snakefile", "workflow/Snakefile"))
    snakefile = [] if has_snakefile or is_here else ["-s", str(SHIPPED / "Snakefile")]
    # `-p`: without it, a dry run counts jobs and names none.
    command = [
        *(sys.executable, "-m", "snakemake"),
        *snakefile,
        *arguments,
        *("-n", "-p", "--nocolor"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    output = f"{done.stdout}\n{done.stderr}"
    if done.returncode != 0:
        raise ConfigError(_refusal(output))
    if not any(mark in output for mark in ("Job stats:", "Nothing to be done")):
        raise ConfigError("mil plan: snakemake printed no jobs; leave --quiet and the like out")
    return output


def _refusal(output: str) -> str:
    """What Snakemake says of a run that it refuses, on one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    ours = [line.removeprefix("mil: ") for line in lines if line.startswith("mil: ")]
    if ours:
        return ours[-1]
    # Of a wrong argument, a page of usage comes first.
    error = next((line.partition(": error: ")[2] for line in lines if ": error: " in line), "")
    # Of an argument that it parses before the Snakefile, a traceback ends in its message.
    raised = [line for line in lines if re.match(r"\w*Error: ", line)]
    if raised and not error:
        error = raised[-1].partition(": ")[2]
        error += REMEDIES.get(error, "")
    return f"snakemake refuses this run: {error or ' '.join(lines[-FAILED:])[:1000]}"


def read_jobs(lines: Iterable[str]) -> list[PlannedJob]:
    """Jobs in the output of a dry run.

    Args:
        lines: Output of `snakemake -n`, without colours.
    """
    jobs: list[PlannedJob] = []
    fields: dict[str, str] = {}
    rule = ""
    for line in [*lines, "rule end:"]:
        if match := re.match(r"(?:local)?(?:rule|checkpoint) (\S+):", line):
            if rule and rule != "all":
                jobs.append(_job(rule, fields))
            rule, fields = match[1], {}
        elif match := re.match(r"    (\w+): (.*)", line):
            fields[match[1]] = match[2]
    return jobs


def _job(rule: str, fields: dict[str, str]) -> PlannedJob:
    given = fields.get("reason", "")
    reason = next((words for known, words in REASONS.items() if known in given), OTHER_REASON)
    part = re.search(r"\bpart=(\w+)", fields.get("wildcards", ""))
    number = re.search(r"\bslides=(\d+)", fields.get("resources", ""))
    if part is None or number is None:
        return PlannedJob(rule, reason)
    return PlannedJob(rule, reason, part[1], int(number[1]))


def jobs_table(jobs: Sequence[PlannedJob]) -> str:
    """Table of jobs: for each rule how many, why, and for how many slides in which parts.

    Args:
        jobs: Jobs of a dry run.
    """
    if not jobs:
        return "nothing to do: all results are there and up to date"
    rules = sorted({job.rule for job in jobs}, key=order_of)
    rows = [("rule", "jobs", "why", "slides")]
    rows += [_row(rule, [job for job in jobs if job.rule == rule]) for rule in rules]
    rows.append(("total", str(len(jobs)), "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{rule:<{widths[0]}}  {number:>{widths[1]}}  {why:<{widths[2]}}  {slides}".rstrip()
        for rule, number, why, slides in rows
    ]
    return "\n".join([*lines, "every job, with its files and its reason: snakemake -n -p"])


def _row(rule: str, jobs: Sequence[PlannedJob]) -> tuple[str, str, str, str]:
    counts = Counter(job.reason for job in jobs).most_common()
    several = len(counts) > 1
    why = ", ".join(f"{reason} ({number})" if several else reason for reason, number in counts)
    # Jobs of several encoders or heads go through the same part.
    sizes = {job.part: job.num_slides for job in jobs if job.part}
    parts = sorted(sizes, key=lambda part: int(part.partition("of")[0]))
    slides = f"{sum(sizes.values())} in {some(parts)}" if parts else ""
    return rule, str(len(jobs)), why, slides
