"""`mil bench train`: time and memory of a training step of each head.

ACMIL is compared with the literal way of writing it.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch

from mil.bench.results_table import BenchmarkTable, Row
from mil.bench.train_results import (
    HeadJob,
    Job,
    LiteralJob,
    ProductRates,
    ProductsJob,
    StepMeasurement,
)
from mil.config import config_path, head_names, load_recipe
from mil.device import has_fast_bf16

NOTE = (
    "one bag of random features on a CPU; each row in processes of its own. step: forward, "
    "losses, backward and optimiser, fastest; median: over all steps of the same process; memory: "
    "peak of the process beyond program, bag (in the precision's type) and parameters. "
    "literal: ACMIL written in plain torch, float32, as many threads. speed-up: the literal's "
    "step relative to this; its memory: this relative to the literal's; loss off: largest "
    "difference from the literal's losses over the same first steps; floor: arithmetic of the "
    "matrix products at the rate of square matrices in this precision; of floor: step relative "
    "to it. The compared ones take turns; the fastest round of each counts."
)
ROUND_S = 2.0
LONGEST_S = 120.0  # a process that takes longer is ended
LITERAL = "acmil, literal"
OURS = "acmil_2024_10"  # recipe that the literal ACMIL is written from
NOTHING = ""
PROGRAMS = {HeadJob: "head", LiteralJob: "literal", ProductsJob: "products"}


def run(
    recipes: Sequence[str],
    *,
    tiles: Sequence[int],
    dim: int,
    precisions: Sequence[str],
    threads: int,
    repeats: int,
    literal: bool,
) -> BenchmarkTable:
    """Time training steps.

    Args:
        recipes: names of head recipes; none: each head's recipe of the same name.
        tiles: numbers of tiles of the bag.
        dim: length of a tile's feature vector.
        precisions: `fp32`, `bf16`.
        threads: number of CPU threads of each process.
        repeats: number of rounds of the comparison with the literal step.
        literal: compare ACMIL with the literal step.

    Raises:
        ConfigError: there is no recipe of a name.
    """
    names = list(recipes) or _own_recipes()
    for name in names:
        load_recipe(name)  # an unknown name is an error before anything is measured
    rows = _compared(tiles[0], dim, threads, repeats) if literal else []
    for count, name, precision in product(tiles, names, precisions):
        step = _measured_step(HeadJob(name, count, dim, precision, threads, ROUND_S))
        rows.append(_row(name, count, precision, step))
    return BenchmarkTable(f"mil bench train, dim {dim}, threads: {threads}", rows, NOTE)


def _own_recipes() -> list[str]:
    """Recipes that have the name of their head."""
    return [name for name in head_names() if config_path(f"heads/{name}.yaml").exists()]


def _compared(tiles: int, dim: int, threads: int, repeats: int) -> list[Row]:
    """The literal ACMIL and ours, taking turns, beside the floor of the products."""
    precisions = ["fp32", "bf16"] if has_fast_bf16(torch.device("cpu")) else ["fp32"]
    jobs: dict[str, HeadJob | LiteralJob] = {LITERAL: LiteralJob(tiles, dim, threads, ROUND_S)}
    for precision in precisions:
        jobs[precision] = HeadJob(OURS, tiles, dim, precision, threads, ROUND_S)
    rounds: dict[str, list[StepMeasurement]] = {name: [] for name in jobs}
    rates: list[ProductRates] = []
    for _ in range(repeats):
        for name, job in jobs.items():
            rounds[name].append(_measured_step(job))
        rates.append(ProductRates(**_measured(ProductsJob(threads, ROUND_S / 4))))
    # The fastest round: other processes can only slow a step down.
    best = {name: min(steps, key=lambda step: step.step_ms) for name, steps in rounds.items()}
    literal = best.pop(LITERAL)
    rows = [_row(LITERAL, tiles, "fp32", literal)]
    for precision, step in best.items():
        rate = max(getattr(rate, precision) for rate in rates)
        floor_ms = gflop(tiles, dim) / rate * 1e3 if rate else 0.0
        rows.append(_row(OURS, tiles, precision, step) | _beside(step, literal, floor_ms))
    return rows


def gflop(tiles: int, dim: int, attention: int = 128) -> float:
    """Arithmetic of ACMIL's step in GFLOP.

    The reducer counts twice, V and U three times: features get no gradient.
    """
    hidden = dim // 2
    return 2e-9 * tiles * hidden * (2 * dim + 3 * 2 * attention)


def _beside(step: StepMeasurement, literal: StepMeasurement, floor_ms: float) -> Row:
    if step.failed or literal.failed:
        return {}
    pairs = zip(step.losses, literal.losses, strict=False)
    return {
        "speed-up": literal.step_ms / step.step_ms,
        "its_memory": step.memory_mb / max(literal.memory_mb, 1e-9),
        "loss_off": max(abs(own - literal_loss) for own, literal_loss in pairs),
        "floor_ms": floor_ms,
        "of_floor": step.step_ms / floor_ms if floor_ms else NOTHING,
    }


def _row(name: str, tiles: int, precision: str, step: StepMeasurement) -> Row:
    numbers: Row = {
        "parameters": step.parameters,
        "step_ms": step.step_ms,
        "median_ms": step.median_ms,
        "bag_MB": step.bag_mb,
        "memory_MB": step.memory_mb,
    }
    if step.failed:
        numbers = dict.fromkeys(numbers, NOTHING)
    beside = dict.fromkeys(("speed-up", "its_memory", "loss_off", "floor_ms", "of_floor"), NOTHING)
    row: Row = {"head": name, "tiles": tiles, "precision": precision}
    return row | numbers | beside | {"failed": step.failed}


def _measured_step(job: HeadJob | LiteralJob) -> StepMeasurement:
    return StepMeasurement(**_measured(job))


def _measured(job: Job) -> Mapping[str, Any]:
    """Fields of the result of a job in a process of its own; of a failure its message."""
    program = "from mil.bench.train_step import main; main()"
    command = [sys.executable, "-c", program, PROGRAMS[type(job)], json.dumps(job._asdict())]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took over {LONGEST_S:.0f} s"}
    if done.returncode:
        errors = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
        return {"failed": errors[-1][:100]}
    fields: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return fields
