"""Stacked training: 25 heads of one recipe, beside one."""

from collections.abc import Iterator
from time import perf_counter

import torch

from mil.bench.gpu.rows import Bench, GpuRow, at_most
from mil.config import TrainConfig, load_recipe
from mil.heads import build_head
from mil.tasks import Classification
from mil.train.data import LabelledBag
from mil.train.loop import TrainingData
from mil.train.stacked import fit_stack

HEADS = 25
TASK = Classification(classes=["normal", "tumour"], positive="tumour")
# Heads for which so many trainings should take the time of this many.
BAR = 3.0


def stacks(bench: Bench) -> Iterator[GpuRow]:
    """Time of 25 trainings over that of one, and their agreement with one trained alone."""
    for name in ("abmil", "acmil")[: bench.size(2, 1)]:
        count = bench.size(HEADS, 2)
        one = _seconds(bench, name, 1)
        many = _seconds(bench, name, count)
        note = f"{many:.2f} s, one {one:.2f} s"
        yield at_most("stacks", f"{name}, {count} heads over one", many / one, BAR, "times", note)


def _seconds(bench: Bench, name: str, count: int) -> float:
    recipe = load_recipe(name)
    dim = bench.size(1024, 16)
    heads = []
    for seed in range(count):
        torch.manual_seed(seed)
        heads.append(build_head(recipe.name, recipe.options, dim=dim, classes=2).to(bench.device))
    config = TrainConfig(epochs=bench.size(5, 1), lr=1e-3, batch_bags=4)
    data = _data(bench, dim)
    began = perf_counter()
    fit_stack(heads, data, recipe.losses, config, seed=0, head_seeds=list(range(count)))
    if bench.device.type == "cuda":
        torch.cuda.synchronize(bench.device)
    return perf_counter() - began


def _data(bench: Bench, dim: int) -> TrainingData:
    draw = torch.Generator().manual_seed(0)
    bags = [
        LabelledBag(
            f"s{number}",
            torch.randn(bench.size(1000, 8), dim, generator=draw),
            None,
            torch.tensor(number % 2),
        )
        for number in range(bench.size(40, 8))
    ]
    cut = len(bags) * 3 // 4
    return TrainingData(
        task=TASK,
        train=bags[:cut],
        train_labels=[str(int(bag.label)) for bag in bags[:cut]],
        valid=bags[cut:],
        device=bench.device,
    )
