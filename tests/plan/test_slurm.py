"""Job arrays of Slurm: the command of a task, and limits that lose jobs."""

import base64
import json
import zlib

import pytest

from mil.errors import ConfigError
from mil.plan.array_task import command_of, read_script
from mil.plan.limits import check_limits
from tests.messages import one_line

FRAME = "exec /opt/my-env/bin/python -m mil.plan.array_task $0 && "
HEADER = "#!/bin/sh\n# This script was created by sbatch --wrap.\n\n"


def pack(commands: dict[int, str]) -> str:
    """Commands of tasks as the plug-in packs them."""
    packed = {str(task): zlib.compress(text.encode()).hex() for task, text in commands.items()}
    return base64.b64encode(json.dumps(packed).encode()).decode()


def framed(command: str) -> str:
    return FRAME.replace("$0", "\\$0") + command


PACKED = pack({8: framed("run 'job of 8' && echo"), 9: framed("run 9")})


@pytest.mark.parametrize("joint", ["=", "\n"])
@pytest.mark.parametrize(
    ("task", "command"), [("7", "run 7"), ("8", "run 'job of 8' && echo"), ("9", "run 9")]
)
def test_a_task_runs_its_own_job_alone(task, command, joint):
    script = f"{HEADER}{FRAME}run 7 --slurm-jobstep-array-execs{joint}{PACKED}\n"
    assert command_of(script, {"SLURM_ARRAY_TASK_ID": task}) == command


def test_a_job_of_its_own_is_no_task():
    script = f"{HEADER}{FRAME}run it\n"
    assert command_of(script, {}) == "run it"
    # Of an array that a user's own `sbatch` started.
    assert command_of(script, {"SLURM_ARRAY_TASK_ID": "3"}) == "run it"


def test_a_script_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="does not start a job of this run"):
        command_of(f"{HEADER}run it\n", {})


def test_a_script_from_standard_input_is_asked_for(tmp_path, monkeypatch):
    program = tmp_path / "scontrol"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert read_script("$0") == "write batch_script 12 -\n"
    (tmp_path / "script").write_text("text")
    assert read_script(str(tmp_path / "script")) == "text"


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"jobs": 100}, "--jobs 100:"),
        ({"rate": 50}, "--max-jobs-per-timespan 50:"),
        ({"resources": ["gpu"]}, "--resources gpu:"),
        ({"jobs": 3, "resources": ["mem_mb"]}, "--jobs 3, --resources mem_mb:"),
    ],
)
def test_arrays_and_limits_do_not_go_together(limits, named):
    none = {"jobs": None, "rate": 100_000, "resources": []}
    with one_line(ConfigError, match=f"^{named} a limit keeps jobs out"):
        check_limits("all", **{**none, **limits})
    check_limits("tile,score", **none)
    for off in (None, "", "none"):
        check_limits(off, **{**none, **limits})
