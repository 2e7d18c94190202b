"""What `mil bench train` measures, each in a process of its own: a head's step, the literal one, matrix products."""

import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from mil.bags import Bags
from mil.bench.measure import held_mb, limit_memory, peak_mb, times_of
from mil.bench.plain_acmil import LiteralAcmil, literal_loss
from mil.config import load_recipe
from mil.device import keep_freed_memory
from mil.heads import FollowsSteps, TwoStage, UsesGraph, build_head
from mil.losses import total_loss
from mil.train.loop import LARGEST_REUSED_BLOCK
from mil.train.optim import AdamW, make_optimiser
from mil.train.precision import choose_dtype, forward_autocast

CLASSES = 2
SEED = 1
FEW = 64  # tiles of a first step that is not counted: it loads libraries
COMPARED = 5  # steps whose losses are compared
SIDE = 2048  # of the matrices whose product is timed
PLACE_PX = 512  # from tile to tile
Step = Callable[[Bags], Tensor]


def main() -> None:
    """Measure what the first argument says with the settings of the second; print the result as JSON."""
    settings = json.loads(sys.argv[2])
    torch.set_num_threads(settings.pop("threads"))
    limit_memory()
    measure: dict[str, Callable[..., dict[str, Any]]] = {
        "head": head,
        "literal": literal,
        "products": products,
    }
    print(json.dumps(measure[sys.argv[1]](**settings)), flush=True)


def head(recipe: str, tiles: int, dim: int, precision: str, seconds: float) -> dict[str, Any]:
    """A training step of a recipe's head on one bag."""
    keep_freed_memory(LARGEST_REUSED_BLOCK)
    settings = load_recipe(recipe)
    torch.manual_seed(SEED)
    made = build_head(settings.name, settings.options, dim=dim, classes=CLASSES).train()
    optimiser = make_optimiser(made, settings.train)
    weights = {name: weight.start for name, weight in settings.losses.items()}

    def loss_of(bags: Bags) -> Tensor:
        return total_loss(weights, forward_autocast(made, bags), bags, torch.tensor([1]))[0]

    def prepare(bags: Bags) -> Bags:
        if isinstance(made, TwoStage):
            made.follow(made.first_stage().eval(), [bags])
        if not isinstance(made, UsesGraph):
            return bags
        made.see_training([bags])
        return bags._replace(graph=made.build_graph(bags.features.float(), bags.coords))

    def after() -> None:
        if isinstance(made, FollowsSteps):
            made.after_step()

    dtype = choose_dtype(precision, torch.device("cpu"))
    return _measure(made, optimiser, loss_of, prepare, after, tiles, dim, dtype, seconds)


def literal(tiles: int, dim: int, seconds: float) -> dict[str, Any]:
    """The literal ACMIL, with the first weights of the head `acmil`."""
    torch.manual_seed(SEED)
    ours = build_head("acmil", {}, dim=dim, classes=CLASSES)
    made = LiteralAcmil(dim, dim // 2, CLASSES)
    with torch.no_grad():
        for parameter, value in zip(made.parameters(), ours.parameters(), strict=True):
            parameter.copy_(value)
    optimiser = torch.optim.AdamW(made.parameters(), lr=1e-4, weight_decay=1e-5)
    return _measure(
        made,
        optimiser,
        lambda bags: literal_loss(made(bags.features), torch.tensor([1])),
        lambda bags: bags,
        lambda: None,
        tiles,
        dim,
        torch.float32,
        seconds,
    )


def products(seconds: float) -> dict[str, Any]:
    """Rate of a product of square matrices in each precision, GFLOP a second; the fastest counts."""
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
        rates[name] = 2e-9 * SIDE**3 / min(times_of(partial(torch.mm, left, right), seconds))
    return rates


def _measure(
    made: nn.Module,
    optimiser: AdamW | torch.optim.Optimizer,
    loss_of: Step,
    prepare: Callable[[Bags], Bags],
    after: Callable[[], None],
    tiles: int,
    dim: int,
    dtype: torch.dtype,
    seconds: float,
) -> dict[str, Any]:
    loss_of(prepare(_bag(FEW, dim, dtype))).backward()
    bags = prepare(_bag(tiles, dim, dtype))
    torch.manual_seed(SEED)
    losses = []

    def step() -> None:
        loss = loss_of(bags)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        after()
        losses.append(loss.detach())

    optimiser.zero_grad()
    before = held_mb()
    times = times_of(step, seconds)
    return {
        "step_ms": 1e3 * min(times),
        "median_ms": 1e3 * median(times),
        "memory_MB": max(0.0, peak_mb() - before),
        "bag_MB": bags.features.nbytes / 2**20,
        "parameters": sum(p.numel() for p in made.parameters()),
        "losses": [float(loss) for loss in losses[:COMPARED]],
    }


def _bag(tiles: int, dim: int, dtype: torch.dtype) -> Bags:
    """One bag of tiles on a square; made in place, so that nothing larger has been in memory before."""
    draw = torch.Generator().manual_seed(SEED)
    features = torch.empty(tiles, dim, dtype=dtype)
    for rows in features.split(1024):
        rows.copy_(torch.randn(rows.shape, generator=draw))
    across = max(1, round(tiles**0.5))
    number = torch.arange(tiles)
    return Bags(
        features,
        torch.tensor([0, tiles]),
        PLACE_PX * torch.stack([number % across, number // across], 1),
    )
