"""What must hold of a run on Slurm: each check returns its failures, one line each."""

import re
from collections import Counter
from pathlib import Path

from tests.cluster.loopback import SlurmJob

# Rules whose jobs are ready together; those of others may be, and are then arrays too.
ARRAY_RULES = ("tile", "train")
# A rule whose first attempt gets too little memory to embed tiles (1.1 GB with Snakemake's own),
# but enough to begin, and whose second gets enough.
KILLED_RULE = "features"
TOO_LITTLE_MB = 800
ENOUGH_MB = 4000

# All that may differ between two runs. Seconds that each slide took; the digest of what a head is
# trained from, which holds the times of change of its bags; and of the report, the same times.
TIMES_SUFFIX = ".times"
DIGEST_WITH_TIMES = "inputs.sha256"
REPORT = "report.html"
TIMES_OF_REPORT = re.compile(
    rb'<section id="throughput">.*?</section>|<th scope="row">written</th>.*?</tr>', re.DOTALL
)


def check_ends(codes: dict[str, int]) -> list[str]:
    """Runs ended well.

    Args:
        codes: Exit code of each run, by its name.
    """
    return [f"{name} ended with exit code {code}" for name, code in codes.items() if code]


def check_arrays(jobs: list[SlurmJob]) -> list[str]:
    """Jobs of the rules with several were tasks of arrays."""
    in_arrays = {rule_of(job) for job in jobs if in_array(job)}
    return [f"no job array of {rule}" for rule in ARRAY_RULES if rule not in in_arrays]


def check_memory(jobs: list[SlurmJob]) -> list[str]:
    """Each job that was killed for its memory ran again with more, and then ended well."""
    mine = [job for job in jobs if rule_of(job) == KILLED_RULE]
    # An array asks for a little more than its jobs.
    first = [job for job in mine if job.megabytes < ENOUGH_MB]
    second = [job for job in mine if job.megabytes >= ENOUGH_MB]
    failures = []
    if not first or any(job.state != "FAILED" for job in first):
        failures.append(f"{KILLED_RULE}: first attempts were not killed: {first}")
    if len(second) != len(first) or any(job.state != "COMPLETED" for job in second):
        failures.append(f"{KILLED_RULE}: not all second attempts ended well: {second}")
    return failures


def check_states(jobs: list[SlurmJob]) -> list[str]:
    """No job failed but those that were killed on purpose."""
    failed = [job for job in jobs if job.state != "COMPLETED" and rule_of(job) != KILLED_RULE]
    return [f"did not end well: {job}" for job in failed]


def check_results(first: Path, second: Path) -> list[str]:
    """Two folders hold the same files with the same bytes, but for times."""
    names = {folder: _files(folder) for folder in (first, second)}
    lost = [f"{name}: not in {second}" for name in sorted(names[first] - names[second])]
    added = [f"{name}: not in {first}" for name in sorted(names[second] - names[first])]
    shared = sorted(names[first] & names[second])
    differ = [
        f"{name}: differs" for name in shared if _content(first / name) != _content(second / name)
    ]
    return lost + added + differ


def _content(path: Path) -> bytes:
    """Bytes of a file that must not differ."""
    if path.name == DIGEST_WITH_TIMES:
        return b""
    content = path.read_bytes()
    return TIMES_OF_REPORT.sub(b"", content) if path.name == REPORT else content


def describe(jobs: list[SlurmJob]) -> list[str]:
    """Number of jobs by rule, state and memory."""
    arrays = {job.number.partition("_")[0] for job in jobs if in_array(job)}
    counts = Counter((rule_of(job), job.state, job.memory, in_array(job)) for job in jobs)
    rows = [
        f"{count:4} {rule:10} {state:10} {memory:>7} {'in an array' if arrayed else ''}".rstrip()
        for (rule, state, memory, arrayed), count in counts.items()
    ]
    return [f"{len(jobs)} jobs on Slurm, {len(arrays)} arrays", *rows]


def in_array(job: SlurmJob) -> bool:
    """Whether a job is a task of an array."""
    return "_" in job.number


def rule_of(job: SlurmJob) -> str:
    """Name of the rule that a job is of."""
    return job.comment.removeprefix("rule_").partition("_wildcards_")[0]


def _files(folder: Path) -> set[str]:
    """Paths of all files but those of times, relative to their folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != TIMES_SUFFIX)
    return {path.relative_to(folder).as_posix() for path in files}
