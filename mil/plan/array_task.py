"""The command of one task of a Slurm job array: `python -m mil.plan.array_task SCRIPT`.

Snakemake's plug-in for Slurm lets each task of an array run the array's first job too, as
a frame around its own: a task that ends before the first one then counts as failed, and
one that fails removes the first one's outputs (plug-in 2.8.0). `profiles/slurm` starts
jobs through this module, which runs the task's own job and no other.
"""

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

# The start of a job, which `precommand` of profiles/slurm puts before it.
FRAME = re.compile(r"exec \S+ -m mil\.plan\.array_task \S+ && ")
# Of the array's tasks but the first: base64 of JSON, from the task's number to its command
# (zlib, in hexadecimal).
COMMANDS = re.compile(r"\s--slurm-jobstep-array-execs[=\s]\s*['\"]?([A-Za-z0-9+/=]+)")


def command_of(script: str, environment: Mapping[str, str]) -> str:
    """Shell command of a job's task.

    Args:
        script: Text of the batch script.
        environment: Environment variables, with the number of the task in an array.

    Raises:
        ValueError: The script does not hold such a command.
    """
    framed = COMMANDS.search(script)
    task = environment.get("SLURM_ARRAY_TASK_ID")
    own = None
    if framed is not None and task is not None:
        packed = json.loads(base64.b64decode(framed[1])).get(task)
        own = packed and zlib.decompress(bytes.fromhex(packed)).decode()
    # The first task's command is not packed.
    command = own or (script[: framed.start()] if framed else script)
    start = FRAME.search(command)
    if start is None:
        raise ValueError("the batch script does not start a job of this run")
    return command[start.end() :].strip()


def read_script(path: str) -> str:
    """Text of the batch script; of a script from standard input, as Slurm keeps it."""
    # The shell puts the path in place of `$0` where the job was not submitted by a file.
    if path != "$0":
        return Path(path).read_text(encoding="utf-8")
    job = os.environ["SLURM_JOB_ID"]
    command = ["scontrol", "write", "batch_script", job, "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    os.execv("/bin/sh", ["/bin/sh", "-c", command_of(read_script(sys.argv[1]), os.environ)])
