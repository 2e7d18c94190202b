"""Every kernel compiles for A100, H100 and B200, without spills and within a block's memory.

In a process of its own: in this one, kernels are for Triton's interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
BAD = """
import triton
import triton.language as tl
from mil.kernels.compile import Variant

@triton.jit
def helper(x):
    return x + 1

@triton.jit
def spilling(x, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    b = tl.load(x + o)
    tl.store(x + o, helper(b - tl.max(b, 0)))  # the whole row is needed until its largest is known

@triton.jit
def large(x, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    b_sum = tl.zeros([BLOCK, BLOCK], tl.float32)
    for step in range(8):
        b_sum += tl.dot(tl.load(x + o + step), tl.load(x + o + step * BLOCK))
    tl.store(x + o, b_sum.to(tl.bfloat16))

@triton.jit
def forgotten(x):
    tl.store(x, helper(1.0))

def variants():
    yield Variant("long rows", spilling, {"x": "*fp32"}, {"BLOCK": 16384}, 1, 1)
    yield Variant("deep", large, {"x": "*bf16"}, {"BLOCK": 128}, 4, 8)
    yield Variant("wrong", forgotten, {"y": "*fp32"}, {}, 4, 1)
"""
ASK = """
import json, sys
import bad
from mil.bench import resources
found = [resources.measure("bad", place, 90)._asdict() for place in range(3)]
bad.variants = lambda it=bad.variants: list(it())[:2]
print(json.dumps([found, resources.unlaunched([bad])]))
"""


def run(*arguments, **how):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **how
    )


@pytest.mark.slow
def test_every_variant_compiles_for_every_chip_and_fits():
    done = run("-m", "mil.bench.resources", "--json", "--processes", "2", env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["arch"] for row in rows} == {80, 90, 100}
    assert len({(row["kernel"], row["variant"], row["arch"]) for row in rows}) == len(
        rows
    )  # names tell them apart
    assert all(0 < row["registers"] <= 255 for row in rows)


@pytest.mark.slow
def test_what_operations_launch_are_these_variants():
    done = run("-m", "tests.kernels.launches", env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    kernels, launches, missing = json.loads(done.stdout)
    assert missing == []
    assert launches > 300
    modules = {
        "attn_pool.forward",
        "attn_pool.backward",
        "bag_attn.forward",
        "bag_attn.backward",
        "gated_scores",
        "neighbour_attn",
        "segments",
        "topk_mask",
        "window_attn",
    }
    assert {name.rpartition(".")[0] for name in kernels} == modules


def test_what_spills_what_is_too_large_and_what_is_forgotten_is_told(tmp_path):
    (tmp_path / "bad.py").write_text(BAD, encoding="utf-8")
    env = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = run("-c", ASK, env=env)
    assert done.returncode == 0, done.stderr
    (spilling, large, wrong), unnamed = json.loads(done.stdout)
    assert spilling["fault"] == "spills"
    assert spilling["spill_bytes"] > 0
    assert large["fault"] == f"more than the {227 * 1024} bytes of shared memory"
    assert large["shared_bytes"] > 227 * 1024
    assert (
        wrong["fault"]
        == "ValueError: wrong: arguments ['x', 'y'] are not both in the kernel and in the variant"
    )
    assert unnamed == ["bad.forgotten"]  # the helper is called by what is launched


def test_the_interpreter_is_refused():
    done = run("-m", "mil.bench.resources", env={**ENVIRONMENT, "TRITON_INTERPRET": "1"})
    assert done.returncode == 1
    assert done.stderr.strip() == "TRITON_INTERPRET is set, and nothing would be compiled: unset it"
