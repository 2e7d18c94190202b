"""A run's jobs on one screen."""

import subprocess

import pytest

from mil.errors import ConfigError
from mil.plan import summary
from tests.messages import one_line

WILDCARDS = "dataset=d, tiling=224px_0.5mpp, encoder=e, head=abmil"
UPDATED = "Input files updated by another job"


def job(rule, outputs, reason, kind="rule"):
    return (
        f"[Sun Nov 29 21:42:59 2026]\n{kind} {rule}:\n    input: data/d/a.tif\n"
        f"    output: {outputs}\n    log: logs/x.log\n    jobid: 3\n    reason: {reason}\n"
        f"    wildcards: {WILDCARDS}\n    resources: tmpdir=/tmp, gpu=1\n"
    )


def tile_files(slide):
    return ", ".join(f"results/d/tile/t/{slide}.{ending}" for ending in ("h5", "geojson", "jpg"))


OUTPUT = "".join(
    [
        "Building DAG of jobs...\nJob stats:\njob count\n",
        job("report", "results/d/report.html", f"{UPDATED}: results/d/compare/comparison.json"),
        *(
            job("score", f"results/d/score/t/e/abmil/{slide}.h5", reason)
            for slide, reason in [
                ("a", "Missing output files: x.h5; Input files updated by another job: y.h5"),
                ("b, results", "Params have changed since last execution"),
                ("c", "Params have changed since last execution; " + UPDATED + ": y.h5"),
            ]
        ),
        # One job of several slides, and names that hold what separates names.
        job("tile", f"{tile_files('a')}, {tile_files('b, c')}, {tile_files('d.e')}", "Code has "),
        job("features_e_f", "results/d/features/t/e/a.h5, results/d/features/t/f/a.h5", UPDATED),
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
    assert by_rule["tile"].slides == {"a", "b, c", "d.e"}
    assert by_rule["features_e_f"].slides == {"a"}
    assert by_rule["report"].reason == "follows from the jobs above"
    assert by_rule["train"] == ("train", "see snakemake -n", frozenset())
    assert "all" not in by_rule


def test_the_table_is_one_line_a_rule_in_the_order_of_a_study():
    table = summary.jobs_table(summary.read_jobs(OUTPUT.splitlines())).splitlines()
    rules = [line.split()[0] for line in table[1:-2]]
    assert rules == ["tile", "features_e_f", "train", "score", "report", "own_rule"]
    score = next(line for line in table if line.startswith("score"))
    assert "3  its settings changed (2), no result yet (1)  3: a, b, results, c" in score
    assert table[-2].split() == ["total", "8"]


def test_the_table_does_not_grow_with_the_slides():
    jobs = [
        summary.PlannedJob("tile", "no result yet", frozenset({f"s{i:03}"})) for i in range(500)
    ]
    table = summary.jobs_table(jobs).splitlines()
    assert len(table) == 4
    assert table[1].endswith("500: s000, s001, s002 and 497 more")


def test_nothing_to_do_is_said():
    assert summary.jobs_table([]).startswith("nothing to do")


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("Using\nmil: config: no key named 'x'\n", 1, "config: no key named 'x'"),
        ("usage: a\n b\nsnakemake: error: unrecognized: --y\n", 2, "run: unrecognized: --y"),
        ("Building\nMissingInputException:\nno a.tif\n", 1, "MissingInputException: no a.tif"),
        ("", 0, "leave --quiet"),
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
    assert commands[0] == ["-s", shipped, "--config", "seeds=2", "-n", "--nocolor"]
    (tmp_path / "Snakefile").touch()
    summary.plan_summary([])
    summary.plan_summary(["-s", "mine"])
    assert commands[1:] == [["-n", "--nocolor"], ["-s", "mine", "-n", "--nocolor"]]
