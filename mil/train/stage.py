"""Bags, folds and a recipe in; a head's folder out."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mil.config import (
    DatasetConfig,
    Recipe,
    check_head,
    dataset_path,
    load_recipe,
    recipe_path,
)
from mil.device import choose_device, keep_freed_memory
from mil.errors import ConfigError, DatasetError
from mil.heads import UsesGraph, build_head
from mil.io.bags import common_identity
from mil.io.bags.patients import FoldBag, check_labels, digest_of_seen, is_early, read_fold_bags
from mil.losses.tasks import target_tensor
from mil.progress import progress
from mil.tasks import AnyTask, fit_task, load_dataset
from mil.train.bags import read_labelled
from mil.train.calibrate import calibrate
from mil.train.checks import check_suits
from mil.train.data import BagStore
from mil.train.job import Job
from mil.train.loop import LARGEST_KEPT, Fitted
from mil.train.precision import choose_dtype
from mil.train.prepare import FIRST_STAGE, prepare
from mil.train.state import weights_of
from mil.train.tensorboard import Board
from mil.trained import Trained, save_trained
from mil.trained.seal import seal
from mil.versions import STAGE_VERSION, TOOL_VERSION

CACHE_MB = 8000


def run(
    dataset: str,
    bags_dir: Path,
    folds: Path,
    out: Path,
    *,
    recipe: str,
    fold: int,
    seed: int,
    threads: int,
    device: str,
    cache_mb: int = CACHE_MB,
    tensorboard: Path | None = None,
) -> Trained:
    """Train one head; a training that was cut off goes on where it was.

    Args:
        dataset: name or yaml of the dataset.
        bags_dir: folder of the bags.
        folds: folds.csv; its test slides are never read here.
        out: the head's folder.
        recipe: name or file of the recipe.
        fold: which fold of folds.csv.
        seed: of initialisation, order, masking and dropout.
        threads: of the CPU.
        device: `cpu`, `cuda`, or `auto`.
        cache_mb: memory for bags, MiB; those that do not fit are read again in every
            epoch.
        tensorboard: folder in which each training has its curves; None: no curves.
    """
    settings = load_recipe(recipe)
    what = load_dataset(dataset)
    on = _set_up(settings, seed, threads, device)
    bags = [bag for bag in read_fold_bags(folds) if bag.fold == fold]
    train, valid = ([bag for bag in bags if bag.split == split] for split in ("train", "val"))
    if not train:
        raise DatasetError(f"{folds}: fold {fold} has no training slides")
    check_labels([*train, *valid], folds, what.task, what.classes)
    labels = [bag.label for bag in train]
    task = _task(settings, what, labels)
    name = recipe_path(recipe).stem
    board = None if tensorboard is None else Board(tensorboard / f"{name}_seed{seed}_fold{fold}")
    identity = common_identity([path for bag in [*train, *valid] for path in bag.paths(bags_dir)])
    store = _store(bags_dir, [*train, *valid], task, cache_mb)
    decisive = _decisive(
        settings, task, [_bags_as_they_are(bags_dir, split) for split in (train, valid)], on
    )
    job = Job(
        title=f"train {name} seed {seed} fold {fold}",
        recipe=settings,
        task=task,
        labels=labels,
        train=store.part(range(len(train))),
        valid=store.part(range(len(train), len(train) + len(valid))),
        seed=seed,
        device=on,
        out=out,
        decisive={**decisive, **identity, "seed": seed, "fold": fold},
        board=board,
    )
    head = build_head(settings.name, settings.options, dim=store.dim, classes=task.outputs).to(on)
    check_suits(task, settings, head)
    fitted = _fit(job, head, store)
    last = weights_of(head)
    head.load_state_dict(fitted.kept)
    trained = Trained(
        recipe_name=name,
        recipe=settings,
        **identity,
        dim=store.dim,
        task=task,
        dataset=dataset_path(dataset).stem,
        seed=seed,
        fold=fold,
        epoch=fitted.history.best_epoch,
        fusion="early" if is_early(bags) else "late",
        calibration=calibrate(head.eval(), job.valid, task, on),
        seen=digest_of_seen(bags),
    )
    _save(job, trained, fitted, last)
    return trained


def _set_up(recipe: Recipe, seed: int, threads: int, device: str) -> torch.device:
    """Everything that holds for the whole process; what the device cannot do is told before anything is read."""
    keep_freed_memory(LARGEST_KEPT)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    on = choose_device(device)
    choose_dtype(recipe.train.precision, on)
    return on


def _fit(job: Job, head: nn.Module, store: BagStore) -> Fitted:
    def train_first(first: nn.Module) -> None:
        first.load_state_dict(job.fit(first, FIRST_STAGE, "first").kept)

    try:
        prepare(head, job.train, train_first)
        if isinstance(head, UsesGraph):
            with progress(
                f"{job.title}, graphs", len(job.train) + len(job.valid), "slides"
            ) as advance:
                store.add_graphs(head, advance)
        return job.fit(head, job.recipe.losses)
    except KeyboardInterrupt:
        kept = job.checkpoints()
        then = f"goes on from {kept[0]}" if kept else "starts again, since nothing was kept yet"
        print(f"{job.title}: interrupted; the same command {then}", file=sys.stderr, flush=True)
        raise


def _save(job: Job, trained: Trained, fitted: Fitted, last: dict[str, Tensor]) -> None:
    """Write the head; what was kept to go on with is no longer needed."""
    history = {key: getattr(fitted.history, key) for key in ("train", "valid", "best_epoch")}
    save_trained(job.out, trained, fitted.kept, history, last=last)
    seal(job.out)
    for checkpoint in job.checkpoints():
        checkpoint.unlink()
    if job.board is not None:
        job.board.close()


def _task(recipe: Recipe, dataset: DatasetConfig, labels: Sequence[str]) -> AnyTask:
    task = fit_task(dataset, labels, balanced=recipe.train.class_weights == "balanced")
    if recipe.train.sampling == "balanced" and not task.classes:
        raise ConfigError(
            f"train.sampling: balanced needs classes, which the task {task.kind} does not have"
        )
    return task


def _store(bags_dir: Path, bags: Sequence[FoldBag], task: AnyTask, cache_mb: int) -> BagStore:
    readers = [
        partial(read_labelled, bag.paths(bags_dir), bag.name, target_tensor(task, bag.label))
        for bag in bags
    ]
    return BagStore(readers, cache_mb << 20)


def _bags_as_they_are(bags_dir: Path, bags: Sequence[FoldBag]) -> list[Any]:
    """Names and labels with size and time of change of each file: to read them all would take as long as an epoch."""
    stats = [[path.stat() for path in bag.paths(bags_dir)] for bag in bags]
    files = [[[stat.st_size, stat.st_mtime_ns] for stat in of] for of in stats]
    return [[bag.name, bag.slides, bag.label, *of] for bag, of in zip(bags, files, strict=True)]


def _decisive(
    recipe: Recipe, task: AnyTask, bags: list[Any], device: torch.device
) -> dict[str, Any]:
    """What decides the last bit of the weights, besides seed and fold."""
    entry = check_head(recipe.name)
    plugged = entry.dist.version if entry is not None and entry.dist is not None else ""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "task": task.model_dump(mode="json"),
        "bags": bags,
        "versions": [TOOL_VERSION, STAGE_VERSION["train"], torch.__version__, plugged],
        "machine": [device.type, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()],
    }
