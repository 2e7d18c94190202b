"""What a user sees of a fault: one line that is true and says what to do, and no traceback."""

import re
from collections.abc import Sequence

# Snakemake's and Python's own words, which no user of a study should have to read.
FOREIGN = re.compile(
    r"Traceback \(most recent call last\)|^\s+File \".*\", line \d+|Error in rule |"
    r"(?<!Missing)Exception(:| in )|^Full Traceback|snakemake\.exceptions"
)
FAILED = re.compile(r"^\w+( .*?)? failed: (?P<error>.*)$")


def faults_of_output(shown: str, expected: Sequence[str], *, code: int) -> list[str]:
    """What is wrong with the output of a run that met a fault.

    Args:
        shown: All that the run showed.
        expected: Patterns; for each there must be a line. None: the run need not fail.
        code: Exit code of the run.
    """
    lines = shown.splitlines()
    faults = [f"foreign words: {line.strip()}" for line in lines if FOREIGN.search(line)]
    for line in lines:
        match = FAILED.match(line)
        if match and not match["error"].startswith("mil: ") and not is_killed(match["error"]):
            faults.append(f"no error of ours: {line}")
    missing = [pattern for pattern in expected if not any(re.search(pattern, s) for s in lines)]
    faults += [f"no line like {pattern!r}" for pattern in missing]
    if expected and code == 0:
        faults.append("the run met a fault and ended with 0")
    return faults


def is_killed(error: str) -> bool:
    """Whether the error says that the job's process was killed."""
    return error.startswith("killed")
