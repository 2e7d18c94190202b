"""`mil bench train`: time and memory of a training step, by head; ACMIL beside the literal way of writing it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from mil.bench.results_table import Outcome, Row
from mil.config import config_path, head_names, load_recipe
from mil.device import has_fast_bf16

NOTE = (
    "one bag of random features on a CPU; each row in processes of its own. step: forward, "
    "losses, backward, "
    "optimiser, of the fastest; median: of all in the same process; memory: what a process holds "
    "at its peak beyond "
    "the program, the bag (of the precision's type) and the parameters. literal: ACMIL written "
    "down in plain torch, "
    "float32, as many threads. speed-up: the literal's step over this; its memory: this over the "
    "literal's; loss off: "
    "from the literal's, at most, over the same first steps; floor: arithmetic of the matrix "
    "products over the rate of "
    "one of square matrices, in this precision; of floor: step over it. The compared ones take "
    "turns; of each the "
    "fastest round counts."
)
ROUND_S = 2.0
LONGEST_S = 120.0  # a process that takes longer is ended
# the recipe that the literal one is written from
LITERAL = "acmil, literal"
OURS = "acmil_2024_10"
NOTHING = ""


def run(
    recipes: Sequence[str],
    *,
    tiles: Sequence[int],
    dim: int,
    precisions: Sequence[str],
    threads: int,
    repeats: int,
    literal: bool,
) -> Outcome:
    """Time training steps.

    Args:
        recipes: which heads; none: each head's recipe of the same name.
        tiles: sizes of the bag.
        dim: length of a tile's feature vector.
        precisions: `fp32`, `bf16`.
        threads: of each process.
        repeats: rounds of the comparison with the literal step.
        literal: whether to compare.
    """
    names = list(recipes) or _own_recipes()
    for name in names:
        load_recipe(name)  # a wrong name is told before anything is measured
    how: dict[str, Any] = {"dim": dim, "threads": threads, "seconds": ROUND_S}
    rows = _compared(tiles[0], how, repeats) if literal else []
    for count, name, precision in product(tiles, names, precisions):
        found = _measured("head", {**how, "recipe": name, "tiles": count, "precision": precision})
        rows.append(_row(name, count, precision, found))
    return Outcome(f"mil bench train, dim {dim}, threads: {threads}", rows, NOTE)


def _own_recipes() -> list[str]:
    """Recipes named like their head."""
    return [name for name in head_names() if config_path(f"heads/{name}.yaml").exists()]


def _compared(tiles: int, how: dict[str, Any], repeats: int) -> list[Row]:
    """The literal ACMIL and ours, in turns, beside what the products alone would take."""
    precisions = ["fp32", "bf16"] if has_fast_bf16(torch.device("cpu")) else ["fp32"]
    asked = {LITERAL: ("literal", {**how, "tiles": tiles})}
    for precision in precisions:
        asked[precision] = ("head", {**how, "recipe": OURS, "tiles": tiles, "precision": precision})
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in asked}
    rates: list[dict[str, Any]] = []
    for _ in range(repeats):
        for name, (what, settings) in asked.items():
            rounds[name].append(_measured(what, settings))
        rates.append(_measured("products", {"threads": how["threads"], "seconds": ROUND_S / 4}))
    best = {
        name: min(found, key=lambda one: one.get("step_ms", float("inf")))
        for name, found in rounds.items()
    }
    rate = {
        precision: max(one.get(precision, 0.0) for one in rates) for precision in ("fp32", "bf16")
    }
    plain = best.pop(LITERAL)
    rows = [_row(LITERAL, tiles, "fp32", plain)]
    for precision, found in best.items():
        floor_ms = gflop(tiles, how["dim"]) / rate[precision] * 1e3 if rate[precision] else 0.0
        rows.append(_row(OURS, tiles, precision, found) | _beside(found, plain, floor_ms))
    return rows


def gflop(tiles: int, dim: int, attention: int = 128) -> float:
    """Arithmetic of ACMIL's step in billions: the reducer twice, V and U three times; features get no gradient."""
    hidden = dim // 2
    return 2e-9 * tiles * hidden * (2 * dim + 3 * 2 * attention)


def _beside(found: dict[str, Any], plain: dict[str, Any], floor_ms: float) -> Row:
    if "failed" in found or "failed" in plain:
        return {}
    return {
        "speed-up": plain["step_ms"] / found["step_ms"],
        "its_memory": found["memory_MB"] / max(plain["memory_MB"], 1e-9),
        "loss_off": max(abs(a - b) for a, b in zip(found["losses"], plain["losses"], strict=False)),
        "floor_ms": floor_ms,
        "of_floor": found["step_ms"] / floor_ms if floor_ms else NOTHING,
    }


def _row(name: str, tiles: int, precision: str, found: dict[str, Any]) -> Row:
    numbers = ("parameters", "step_ms", "median_ms", "bag_MB", "memory_MB")
    beside = dict.fromkeys(("speed-up", "its_memory", "loss_off", "floor_ms", "of_floor"), NOTHING)
    return {
        "head": name,
        "tiles": tiles,
        "precision": precision,
        **{key: found.get(key, NOTHING) for key in numbers},
        **beside,
        "failed": found.get("failed", NOTHING),
    }


def _measured(what: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own has found, or why it has not."""
    program = "from mil.bench.train_step import main; main()"
    command = [sys.executable, "-c", program, what, json.dumps(settings)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took over {LONGEST_S:.0f} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
        return {"failed": said[-1][:100]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
