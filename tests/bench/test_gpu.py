"""`mil bench gpu`: what fails is a row, and the dry form runs every part."""

import json
import subprocess
import sys
from time import perf_counter

import pytest
import torch

from mil.bench.gpu.rows import Bench, GpuRow, at_least, at_most
from mil.bench.gpu.run import rows_of, run
from mil.bench.gpu.tuning import _row_width
from mil.bench.kernels_cases import Case
from mil.errors import ConfigError
from mil.kernels import tuning
from mil.kernels.tuning import key, trying, tuned

CPU = torch.device("cpu")


def bench(seconds=60.0, dry=True):
    return Bench(CPU, dry, perf_counter() + seconds)


def first(bench):
    yield GpuRow("first", "figure", 1.0)
    raise RuntimeError("launch\nfailed")


def second(bench):
    yield at_least("second", "rate", 0.5, 0.85)


def test_a_part_that_fails_is_a_row_and_the_next_runs():
    rows = list(rows_of([first, second], bench(dry=False)))
    assert [(row.part, row.name, row.verdict) for row in rows] == [
        ("first", "figure", ""),
        ("first", "the rest", "failed"),
        ("first", "time of this part", ""),
        ("second", "rate", "missed"),
        ("second", "time of this part", ""),
    ]
    assert rows[1].note == "RuntimeError: launch failed"


def test_bars_are_not_judged_in_the_dry_form():
    assert [row.verdict for row in rows_of([second], bench())] == ["", ""]


def test_parts_without_time_left_are_named():
    (row,) = rows_of([second], bench(seconds=-1))
    assert row.note == "the time is used up; give more --minutes"


def test_bars_are_met_at_their_value():
    assert at_least("p", "n", 0.85, 0.85).verdict == "ok"
    assert at_most("p", "n", 2.0, 2.0).verdict == "ok"
    assert at_most("p", "n", 2.1, 2.0).verdict == "missed"


def test_blocks_are_stored_by_the_width_that_their_kernel_asks_for():
    assert _row_width(Case("bag_attn", 8, 1024, 1, 1, "bf16")) == 64
    assert _row_width(Case("attn_pool", 8, 1024, 1, 1, "bf16")) == 1024


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_remedy_is_named():
    with pytest.raises(ConfigError, match="there is no GPU; --dry runs everything once"):
        run(minutes=1, json=None, tuned=None, dry=False)


def test_block_sizes_are_those_that_are_tried_then_those_of_the_chip(monkeypatch):
    kernel = "attn_pool.forward"
    assert tuned(kernel, torch.bfloat16, 512, CPU) == {}
    with trying(kernel, {"BLOCK_N": 32}):
        assert tuned(kernel, torch.bfloat16, 512, CPU) == {"BLOCK_N": 32}
        assert tuned("other", torch.bfloat16, 512, CPU) == {}
    table = {"sm_90": {key(kernel, torch.bfloat16, 400): {"BLOCK_N": 128}}}
    monkeypatch.setattr(tuning, "table", lambda: table)
    monkeypatch.setattr(tuning, "chip", lambda device: "sm_90")
    gpu = torch.device("cuda")
    assert tuned(kernel, torch.bfloat16, 512, gpu) == {"BLOCK_N": 128}
    assert tuned(kernel, torch.bfloat16, 513, gpu) == {}
    assert tuned(kernel, torch.float32, 512, gpu) == {}


def test_the_table_of_the_package_names_kernels_and_numbers():
    for of_chip in tuning.table().values():
        for name, blocks in of_chip.items():
            kernel, _, width = name.split()
            assert kernel.split(".")[1] in ("forward", "backward")
            assert int(width) > 0
            assert all(isinstance(value, int) for value in blocks.values())


@pytest.mark.slow
def test_the_dry_form_runs_every_part(tmp_path):
    out, blocks = tmp_path / "gpu.json", tmp_path / "tuned.json"
    command = [sys.executable, "-m", "mil.bench.gpu", "--dry", "--minutes", "30"]
    done = subprocess.run(
        [*command, "--json", str(out), "--tuned", str(blocks)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(out.read_text())
    assert content["format"] == "mil.bench.gpu"
    assert content["dry"] is True
    rows = content["rows"]
    assert not [row for row in rows if row["verdict"] == "failed"]
    parts = list(dict.fromkeys(row["part"] for row in rows))
    assert parts == [
        "checks",
        "rates",
        "bars",
        "operations",
        "tuning",
        "steps",
        "encoders",
        "stacks",
        "memory",
    ]
    assert not [row for row in rows if "used up" in row["note"]]
    # Whether any blocks gain is chance here.
    assert list(json.loads(blocks.read_text())) == ["cpu"]
