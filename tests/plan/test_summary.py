"""A run's jobs on one screen."""

import subprocess

import pytest

from mil.errors import ConfigError
from mil.plan import summary
from tests.messages import one_line

WILDCARDS = "dataset=d, tiling=224px_0.5mpp, encoder=e, head=abmil"
UPDATED = "Input files updated by another job"
MISSING = "Missing output files: x.csv"


def job(rule, outputs, reason, kind="rule", part="", slides=0):
    # As Snakemake 9 prints it.
    wildcards = f"{WILDCARDS}, part={part}" if part else WILDCARDS
    resources = f"tmpdir=<TBD>, runtime=120, slides={slides}" if part else "tmpdir=<TBD>, gpu=1"
    return (
        f"[Sun Nov 29 21:42:59 2026]\n{kind} {rule}:\n    input: data/d/a.tif\n"
        f"    output: {outputs}\n    log: logs/x.log\n    jobid: 3\n    reason: {reason}\n"
        f"    wildcards: {wildcards}\n    resources: {resources}\n"
    )


def of_part(rule, part, slides, reason):
    return job(rule, f"results/d/{rule}/t/parts/{part}.csv", reason, part=part, slides=slides)


OUTPUT = "".join(
    [
        "Building DAG of jobs...\nJob stats:\njob count\n",
        job("report", "results/d/report.html", f"{UPDATED}: results/d/compare/comparison.json"),
        of_part("score", "2of4", 3, f"{MISSING}; {UPDATED}: y.h5"),
        of_part("score", "1of4", 5, "Params have changed since last execution"),
        # Another head, the same slides.
        of_part("score", "1of4", 5, f"Params have changed since last execution; {UPDATED}: y.h5"),
        of_part("tile", "1of1", 9, "Code has changed since last execution"),
        of_part("features_e_f", "10of16", 7, UPDATED),
        of_part("features_e_f", "2of16", 6, UPDATED),
        job("train", "results/d/train/t/e/abmil/s/head.safetensors (update)", "Something new"),
        job("own_rule", "x.txt", "Forced execution", kind="checkpoint"),
        job("all", "", UPDATED, kind="localrule"),
        "Reasons:\n    (check individual jobs above for details)\n",
    ]
)


def test_jobs_are_read_from_a_dry_run():
    jobs = summary.read_jobs(OUTPUT.splitlines())
    assert [one.rule for one in jobs].count("score") == 3
    by_rule = {one.rule: one for one in jobs}
    assert by_rule["tile"] == ("tile", "its rule changed", "1of1", 9)
    assert by_rule["report"].reason == "follows from the jobs above"
    assert by_rule["train"] == ("train", "see snakemake -n -p", "", 0)
    assert "all" not in by_rule


def test_the_table_is_one_line_a_rule_in_the_order_of_a_study():
    table = summary.jobs_table(summary.read_jobs(OUTPUT.splitlines())).splitlines()
    rules = [line.split()[0] for line in table[1:-2]]
    assert rules == ["tile", "features_e_f", "train", "score", "report", "own_rule"]
    score = next(line for line in table if line.startswith("score"))
    assert "3  its settings changed (2), no result yet (1)  8 in 1of4, 2of4" in score
    assert next(line for line in table if "_e_f" in line).endswith("13 in 2of16, 10of16")
    assert table[-2].split() == ["total", "9"]


def test_the_table_does_not_grow_with_the_slides():
    jobs = [
        summary.PlannedJob("tile", "no result yet", f"{number}of512", 30)
        for number in range(1, 501)
    ]
    table = summary.jobs_table(jobs).splitlines()
    assert len(table) == 4
    assert table[1].endswith("15000 in 1of512, 2of512, 3of512 and 497 more")


def test_nothing_to_do_is_said():
    assert summary.jobs_table([]).startswith("nothing to do")


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("Using\nmil: config: no key named 'x'\n", 1, "config: no key named 'x'"),
        ("usage: a\n b\nsnakemake: error: unrecognized: --y\n", 2, "run: unrecognized: --y"),
        ("Building\nMissingInputException:\nno a.tif\n", 1, "MissingInputException: no a.tif"),
        ("", 0, "leave --quiet"),
        (
            "Using\nTraceback (most recent call last):\n  File a.py\n    raise ValueError(\n\n"
            "ValueError: Invalid config definition: Config entry must start with a valid "
            "identifier.\n\nUsing workflow specific profile profiles/default\n",
            1,
            r"run: Invalid config definition: .* in braces: --config 'tile=\{mpp: 0.5\}'$",
        ),
    ],
)
def test_a_run_that_snakemake_refuses_is_one_line(monkeypatch, output, code, message):
    def run(command, **_):
        return subprocess.CompletedProcess(command, code, "", output)

    monkeypatch.setattr(subprocess, "run", run)
    with one_line(ConfigError, match=message):
        summary.plan_summary(["--config", "dataset=x"])


def test_the_arguments_are_those_of_the_run(monkeypatch, tmp_path):
    commands = []

    def run(command, **_):
        commands.append(command[3:])
        return subprocess.CompletedProcess(command, 0, OUTPUT, "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    summary.plan_summary(["--config", "seeds=2"])
    shipped = str(summary.SHIPPED / "Snakefile")
    assert commands[0] == ["-s", shipped, "--config", "seeds=2", "-n", "-p", "--nocolor"]
    (tmp_path / "Snakefile").touch()
    summary.plan_summary([])
    summary.plan_summary(["-s", "mine"])
    assert commands[1:] == [["-n", "-p", "--nocolor"], ["-s", "mine", "-n", "-p", "--nocolor"]]
