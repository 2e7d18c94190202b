"""The same command continues after Ctrl-C and after a kill, in whatever stage they came."""

import os
import signal
import subprocess

import pytest

from tests.workflow.conftest import ONE_SLIDE_PER_JOB, SNAKEMAKE

ARGUMENTS = ("--config", "dataset=toy", "head=abmil", "baseline=none")
# Writes what it should, says so, and then does not end: the files are whole, and Snakemake
# cannot know it.
STUCK = """#!/bin/bash
"$(dirname "$0")/mil-as-usual" "$@"
if [ "$1" = "STAGE" ] && [ -e stuck ]; then echo > stuck; exec sleep 100; fi
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["tile", "train", "score"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_continues(study, stage, number):
    usual = study.folder / "bin" / "mil"
    usual.rename(study.folder / "bin" / "mil-as-usual")
    usual.write_text(STUCK.replace("STAGE", stage))
    usual.chmod(0o755)
    stuck = study.folder / "stuck"
    os.mkfifo(stuck)
    with subprocess.Popen(
        [*SNAKEMAKE, *ARGUMENTS],
        cwd=study.folder,
        env={**os.environ, "PATH": study.path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # A test that runs in the background is deaf to Ctrl-C, and so would its children be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        # Opens when a job has written its files.
        stuck.read_text()
        os.killpg(run.pid, number)
    stuck.unlink()
    again = study.snakemake(*ARGUMENTS)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 in, 3 out" in again.stderr
    assert study.planned("head=abmil") == {}


@pytest.mark.slow
def test_the_users_own_profile_wins(study):
    (study.folder / "mine").mkdir()
    (study.folder / "mine" / "config.yaml").write_text("config:\n  head: mean\n")
    plan = study.snakemake("-n", "--profile", "mine", "--config", "dataset=toy")
    assert plan.returncode == 0, plan.stderr
    (study.folder / "mine" / "config.yaml").write_text("dry-run: true\n")
    plan = study.snakemake("--workflow-profile", "mine", *ARGUMENTS)
    assert "This was a dry-run" in plan.stdout + plan.stderr
    assert "profiles/default" not in plan.stderr


@pytest.mark.slow
def test_a_plan_is_one_line_a_rule(study):
    planned = study.planned("head=abmil")
    from mil.plan.summary import plan_summary

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study.folder)
        table = plan_summary(["-s", SNAKEMAKE[4], *ARGUMENTS, ONE_SLIDE_PER_JOB])
    rows = {line.split()[0]: int(line.split()[1]) for line in table.splitlines()[1:-2]}
    assert rows == planned
    assert "3 in 2of4, 3of4, 4of4" in table
