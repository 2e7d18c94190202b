"""A training step of every head: time, launches, memory, and whether it waits for the GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mil.bags import Bags
from mil.bench.gpu.rows import Bench, GpuRow
from mil.bench.kernels_step import milliseconds
from mil.config import load_recipe
from mil.config.recipes import recipe_files
from mil.errors import brief
from mil.heads import FollowsSteps, TwoStage, UsesGraph, build_head
from mil.losses import total_loss
from mil.train.optim import make_optimiser
from mil.train.precision import choose_dtype, forward_autocast

CLASSES = 2
SEED = 1
STEP_PX = 512
MB = 2**20


def steps(bench: Bench) -> Iterator[GpuRow]:
    """Recipes without a date or a dataset in their name, at two lengths of a bag."""
    names = [name for name in recipe_files() if "_20" not in name and "camelyon" not in name]
    if bench.dry:
        names = ["abmil", "graph_select"]
    for tiles in (bench.size(10_000, 24), bench.size(100_000, 32)):
        for name in names:
            if bench.is_late:
                return
            yield from _of_recipe(bench, name, tiles)


def _of_recipe(bench: Bench, name: str, tiles: int) -> Iterator[GpuRow]:
    try:
        step = training_step(bench, name, tiles)
        step()
        yield GpuRow(
            "steps", f"{name}, {tiles} tiles", _ms(bench, step), "ms", note=_usage(bench, step)
        )
    except Exception as error:  # noqa: BLE001  the other heads count still
        yield GpuRow("steps", f"{name}, {tiles} tiles", verdict="failed", note=brief(error)[:100])
        return
    fault = _waits(bench, step)
    verdict = GpuRow("steps", f"{name}, {tiles} tiles, no wait for the GPU", verdict="ok")
    if fault:
        # A figure, no failure: selections of a ragged graph have sizes that a CPU must know.
        verdict = verdict._replace(verdict="missed", note=fault)
    yield verdict


def training_step(bench: Bench, recipe_name: str, tiles: int) -> Callable[[], None]:
    """A step of a recipe's head on one bag of 1024 features a tile."""
    recipe = load_recipe(recipe_name)
    torch.manual_seed(SEED)
    dim = bench.size(1024, 32)
    head: nn.Module = build_head(recipe.name, recipe.options, dim=dim, classes=CLASSES)
    head = head.to(bench.device).train()
    bags = one_bag(bench, tiles, dim)
    label = torch.tensor([1], device=bench.device)
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().to(bench.device).eval(), [bags])
        head = head.to(bench.device)
    if isinstance(head, UsesGraph):
        head.see_training([bags])
        bags = bags._replace(graph=head.build_graph(bags.features.float(), bags.coords))
    weights = {name: weight.start for name, weight in recipe.losses.items()}
    optimiser = make_optimiser(head, recipe.train)

    def step() -> None:
        optimiser.zero_grad()
        loss, _ = total_loss(weights, forward_autocast(head, bags), bags, label)
        loss.backward()
        optimiser.step()
        if isinstance(head, FollowsSteps):
            head.after_step()

    return step


def one_bag(bench: Bench, tiles: int, dim: int) -> Bags:
    """Random features in the dtype of training, on a square grid."""
    rng = torch.Generator(bench.device).manual_seed(SEED)
    dtype = choose_dtype("auto", bench.device)
    features = torch.randn(tiles, dim, generator=rng, device=bench.device).to(dtype)
    across = max(1, round(tiles**0.5))
    number = torch.arange(tiles, device=bench.device)
    coords = STEP_PX * torch.stack([number % across, number // across], 1)
    return Bags(features, torch.tensor([0, tiles], device=bench.device), coords)


def _ms(bench: Bench, step: Callable[[], None]) -> float:
    return milliseconds(step, bench.device, bench.seconds)


def _usage(bench: Bench, step: Callable[[], None]) -> str:
    """Launches of a step and its peak of memory."""
    if bench.device.type != "cuda":
        return ""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.reset_peak_memory_stats(bench.device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize(bench.device)
    launches = sum(event.count for event in profiled.key_averages())
    peak = torch.cuda.max_memory_allocated(bench.device) / MB
    return f"{launches} launches, {peak:.0f} MB"


def _waits(bench: Bench, step: Callable[[], None]) -> str:
    """What makes a step wait for the GPU; empty if nothing does."""
    with _errors_at_waits(bench):
        try:
            step()
        except RuntimeError as error:
            return brief(error)[:100]
    return ""


@contextmanager
def _errors_at_waits(bench: Bench) -> Iterator[None]:
    if bench.device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
