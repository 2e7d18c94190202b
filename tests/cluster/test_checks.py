"""Checks of a run on Slurm, which `python -m tests.cluster` makes, fail where they should."""

from pathlib import Path

import pytest

from tests.cluster.checks import (
    ARRAY_RULES,
    check_arrays,
    check_ends,
    check_memory,
    check_results,
    check_states,
    describe,
)
from tests.cluster.loopback import SlurmJob

KILLED = [
    SlurmJob(f"1_{task}", "FAILED", "801M", "rule_features_wildcards_demo") for task in (1, 2)
]
AGAIN = [
    SlurmJob("2_1", "COMPLETED", "4001M", "rule_features"),
    SlurmJob("3", "COMPLETED", "5G", "rule_features"),
]
ARRAYS = [
    SlurmJob(f"9_{task}", "COMPLETED", "4G", f"rule_{rule}")
    for task, rule in enumerate([*ARRAY_RULES, "score"])
]
GOOD = [*KILLED, *AGAIN, *ARRAYS]


def test_a_good_run_passes():
    assert (
        check_ends({"a": 0}) == check_arrays(GOOD) == check_memory(GOOD) == check_states(GOOD) == []
    )
    assert describe(GOOD)[:2] == [
        "7 jobs on Slurm, 3 arrays",
        "   2 features   FAILED        801M in an array",
    ]


def test_a_run_that_failed_is_named():
    assert check_ends({"a": 0, "b": 1}) == ["b ended with exit code 1"]


def test_jobs_that_are_no_arrays_are_named():
    alone = [
        job._replace(number=job.number.replace("_", "")) for job in GOOD if "train" in job.comment
    ]
    others = [job for job in GOOD if "train" not in job.comment]
    assert check_arrays([*others, *alone]) == ["no job array of train"]


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        AGAIN,
        KILLED,
        [*KILLED, AGAIN[0]],
        [*KILLED, AGAIN[0], AGAIN[1]._replace(state="FAILED")],
        [*KILLED, AGAIN[0], AGAIN[1]._replace(memory="801M")],
        [KILLED[0], KILLED[1]._replace(state="COMPLETED"), *AGAIN],
    ],
)
def test_a_killed_job_must_run_again_with_more(jobs):
    assert check_memory(jobs) != []


def test_other_jobs_must_not_fail():
    failed = SlurmJob("10", "TIMEOUT", "1G", "rule_score")
    assert check_states([*GOOD, failed]) == [f"did not end well: {failed}"]


@pytest.mark.parametrize(
    ("name", "content", "failure"),
    [("bag.h5", b"other", "bag.h5: differs"), ("a/half.tmp", b"", "a/half.tmp: not in ")],
)
def test_results_must_be_the_same(tmp_path: Path, name, content, failure):
    for folder in ("local", "cluster"):
        (tmp_path / folder / "a").mkdir(parents=True)
        (tmp_path / folder / "bag.h5").write_bytes(b"bytes")
    local, cluster = tmp_path / "local", tmp_path / "cluster"
    assert check_results(local, cluster) == []
    (cluster / name).write_bytes(content)
    (line,) = check_results(local, cluster)
    assert line.startswith(failure)
    assert check_results(cluster, local) != []


def test_of_the_results_times_alone_may_differ(tmp_path: Path):
    report = '<h2>ROC</h2><tr><th scope="row">written</th><td>{0}</td></tr><p>AUROC {1}</p>'
    report += '<section id="throughput"><td>{0}</td></section><section id="slides">{1}</section>'
    local, cluster = tmp_path / "local", tmp_path / "cluster"
    for folder, time in ((local, "8:00"), (cluster, "9:00")):
        folder.mkdir()
        (folder / "1of2.times").write_text(time)
        (folder / "inputs.sha256").write_text(time)
        (folder / "report.html").write_text(report.format(time, "0.9"))
    assert check_results(local, cluster) == []
    (cluster / "report.html").write_text(report.format("9:00", "0.8"))
    assert check_results(local, cluster) == ["report.html: differs"]
