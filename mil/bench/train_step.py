"""Process of `mil bench train` that measures a head's step, the literal one, or products."""

import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mil.bags import Bags
from mil.bench.measure import held_mb, limit_memory, peak_mb, times_of
from mil.bench.plain_acmil import LiteralAcmil, literal_loss
from mil.bench.train_results import (
    HeadJob,
    LiteralJob,
    ProductRates,
    ProductsJob,
    StepMeasurement,
)
from mil.config import load_recipe
from mil.heads import FollowsSteps, TwoStage, UsesGraph, build_head
from mil.losses import total_loss
from mil.memory import keep_freed_memory
from mil.train.loop import LARGEST_REUSED_BLOCK
from mil.train.optim import AdamW, make_optimiser
from mil.train.precision import choose_dtype, forward_autocast

CLASSES = 2
SEED = 1
WARMUP_TILES = 64  # tiles of a first step that is not counted: it loads libraries
COMPARED = 5  # first steps whose losses are compared
SIDE = 2048  # rows and columns of the matrices whose product is timed
STEP_PX = 512  # distance between neighbouring tiles


def main() -> None:
    """Measure the job of the arguments, its kind and its fields; print the result as JSON."""
    kind, fields = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(fields["threads"])
    limit_memory()
    result: StepMeasurement | ProductRates
    if kind == "head":
        result = head(HeadJob(**fields))
    elif kind == "literal":
        result = literal(LiteralJob(**fields))
    else:
        result = products(ProductsJob(**fields))
    print(json.dumps(result._asdict()), flush=True)


class Trainee(NamedTuple):
    """Model whose step is timed."""

    model: nn.Module
    optimiser: AdamW | torch.optim.Optimizer
    loss_of: Callable[[Bags], Tensor]
    prepare: Callable[[Bags], Bags] = lambda bags: bags  # before the first step
    after_step: Callable[[], None] = lambda: None


def head(job: HeadJob) -> StepMeasurement:
    """A training step of a recipe's head on one bag."""
    keep_freed_memory(LARGEST_REUSED_BLOCK)
    recipe = load_recipe(job.recipe)
    torch.manual_seed(SEED)
    model = build_head(recipe.name, recipe.options, dim=job.dim, classes=CLASSES).train()
    weights = {name: weight.start for name, weight in recipe.losses.items()}

    def loss_of(bags: Bags) -> Tensor:
        return total_loss(weights, forward_autocast(model, bags), bags, torch.tensor([1]))[0]

    def prepare(bags: Bags) -> Bags:
        if isinstance(model, TwoStage):
            model.follow(model.first_stage().eval(), [bags])
        if not isinstance(model, UsesGraph):
            return bags
        model.see_training([bags])
        return bags._replace(graph=model.build_graph(bags.features.float(), bags.coords))

    def after_step() -> None:
        if isinstance(model, FollowsSteps):
            model.after_step()

    optimiser = make_optimiser(model, recipe.train)
    dtype = choose_dtype(job.precision, torch.device("cpu"))
    trainee = Trainee(model, optimiser, loss_of, prepare, after_step)
    return _measure(trainee, job.tiles, job.dim, dtype, job.seconds)


def literal(job: LiteralJob) -> StepMeasurement:
    """A training step of the literal ACMIL, with the initial weights of the head `acmil`."""
    torch.manual_seed(SEED)
    acmil = build_head("acmil", {}, dim=job.dim, classes=CLASSES)
    model = LiteralAcmil(job.dim, job.dim // 2, CLASSES)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), acmil.parameters(), strict=True):
            parameter.copy_(value)

    def loss_of(bags: Bags) -> Tensor:
        return literal_loss(model(bags.features), torch.tensor([1]))

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5)
    trainee = Trainee(model, optimiser, loss_of)
    return _measure(trainee, job.tiles, job.dim, torch.float32, job.seconds)


def products(job: ProductsJob) -> ProductRates:
    """Rate of a product of square matrices in each precision; the fastest counts."""
    return ProductRates(
        fp32=_gflops(torch.float32, job.seconds), bf16=_gflops(torch.bfloat16, job.seconds)
    )


def _gflops(dtype: torch.dtype, seconds: float) -> float:
    left = torch.randn(SIDE, SIDE).to(dtype)
    right = torch.randn(SIDE, SIDE).to(dtype)
    fastest = min(times_of(partial(torch.mm, left, right), seconds))
    return 2e-9 * SIDE**3 / fastest


def _measure(
    trainee: Trainee, tiles: int, dim: int, dtype: torch.dtype, seconds: float
) -> StepMeasurement:
    model, optimiser, loss_of, prepare, after_step = trainee
    loss_of(prepare(_bag(WARMUP_TILES, dim, dtype))).backward()
    bags = prepare(_bag(tiles, dim, dtype))
    torch.manual_seed(SEED)
    losses: list[Tensor] = []

    def step() -> None:
        loss = loss_of(bags)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        after_step()
        losses.append(loss.detach())

    optimiser.zero_grad()
    before = held_mb()
    times = times_of(step, seconds)
    return StepMeasurement(
        step_ms=1e3 * min(times),
        median_ms=1e3 * median(times),
        memory_mb=max(0.0, peak_mb() - before),
        bag_mb=bags.features.nbytes / 2**20,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        losses=[float(loss) for loss in losses[:COMPARED]],
    )


def _bag(tiles: int, dim: int, dtype: torch.dtype) -> Bags:
    """One bag of tiles on a square grid.

    It is filled in place: a larger temporary would count as memory.
    """
    rng = torch.Generator().manual_seed(SEED)
    features = torch.empty(tiles, dim, dtype=dtype)
    for rows in features.split(1024):
        rows.copy_(torch.randn(rows.shape, generator=rng))
    across = max(1, round(tiles**0.5))
    number = torch.arange(tiles)
    positions = torch.stack([number % across, number // across], 1)
    return Bags(features, torch.tensor([0, tiles]), STEP_PX * positions)
