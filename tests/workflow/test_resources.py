"""Memory, time and GPUs that jobs ask for."""

import re

import pytest

pytestmark = pytest.mark.slow
GPU_RULES = {"features", "train", "refine"}
CONFIG = ["--config", "dataset=toy", "head=abmil", "heatmap={stride: 0.5}", "slide_encoder=mean"]


def resources(study, *arguments: str) -> dict[str, dict[str, str]]:
    """Resources of a job of each rule that a dry run plans."""
    done = study.snakemake("-n", "-p", *arguments)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    rows = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", text, re.MULTILINE)
    asked = {name: dict(pair.split("=", 1) for pair in row.split(", ")) for name, row in rows}
    # Runs nothing.
    del asked["all"]
    return asked


def test_a_second_attempt_asks_for_twice_as_much(study):
    first = resources(study, *CONFIG)
    second = resources(study, "--attempt", "2", *CONFIG)
    assert len(first) > 10
    for rule, asked in first.items():
        for name in ("mem_mb", "runtime"):
            assert int(second[rule][name]) == 2 * int(asked[name]), rule


def test_jobs_ask_for_a_gpu_where_they_use_one(study):
    for device, rules in (("cpu", set()), ("gpu", GPU_RULES)):
        asked = resources(study, *CONFIG, f"device={device}")
        assert {rule for rule in asked if asked[rule].get("gpu", "0") != "0"} == rules
