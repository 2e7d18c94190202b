"""Stage `train`: bags, folds and a recipe give the folders of trained heads."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from mil.config import (
    DatasetConfig,
    Recipe,
    check_head,
    dataset_path,
    load_recipe,
    recipe_errors,
    recipe_path,
)
from mil.device import choose_device
from mil.errors import DatasetError
from mil.io.bags import common_identity
from mil.io.bags.patients import (
    FoldBag,
    check_labels_of_table,
    digest_of_seen,
    is_early,
    read_fold_bags,
)
from mil.io.tables import read_dataset
from mil.memory import keep_freed_memory
from mil.tasks import AnyTask
from mil.train.auto import described
from mil.train.facts import study_size
from mil.train.fold import FoldData, bags_of_fold, fold_data
from mil.train.initial import read_initial
from mil.train.job import HeadJob
from mil.train.loop import LARGEST_REUSED_BLOCK
from mil.train.precision import choose_dtype
from mil.train.prepare import make_task
from mil.train.result import finished_head, train_head
from mil.train.store import open_store
from mil.train.tensorboard import TensorBoardWriter
from mil.trained import Trained
from mil.versions import STAGE_VERSION, TOOL_VERSION

CACHE_MB = 8000  # Memory for bags, MiB.


class HeadRun(NamedTuple):
    """A head that a job trains: its seed, its fold, and its folder."""

    seed: int
    fold: int
    out: Path


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
    """Train one head of a seed and a fold, into one folder; see `run_all`."""
    heads = run_all(
        dataset,
        bags_dir,
        folds,
        [HeadRun(seed, fold, out)],
        recipe=recipe,
        threads=threads,
        device=device,
        cache_mb=cache_mb,
        tensorboard=tensorboard,
    )
    return heads[0]


def run_all(
    dataset: str,
    bags_dir: Path,
    folds: Path,
    runs: Sequence[HeadRun],
    *,
    recipe: str,
    threads: int,
    device: str,
    cache_mb: int = CACHE_MB,
    tensorboard: Path | None = None,
    report: Callable[[HeadRun, Trained], object] = lambda *_: None,
) -> list[Trained]:
    """Train heads of one recipe, whose bags are read once for all of them.

    Each head is the same as if it were trained alone. A head that is finished already,
    from the same bags, recipe and versions, is kept as it is; an interrupted training
    resumes from its checkpoint. Checkpoints are removed when all heads are finished.

    Args:
        dataset: Name or yaml file of the dataset.
        bags_dir: Folder of the bags.
        folds: File folds.csv; a bag is opened only if it is for training or validation
            in one of the folds, and no head can reach the test bags of its own fold.
        runs: Seed, fold and folder of each head.
        recipe: Name or file of the recipe.
        threads: CPU threads.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        cache_mb: Memory for bags, MiB; bags that do not fit are read again in every
            epoch.
        tensorboard: Folder for training curves, a subfolder each; None: no curves.
        report: Called with each head and its record as soon as it is finished.

    Raises:
        ConfigError: Recipe, head, task and device do not go together.
        DatasetError: A fold has no training slides, a label does not suit the task or is
            another one in the slide table, two heads have one folder, or a loss becomes
            NaN.
        FormatError: A bag cannot be read, has no tiles, or was made by another encoder.
    """
    _check_apart(runs)
    settings = load_recipe(recipe)
    config, slides = read_dataset(dataset)
    torch_device = _set_up(settings, threads, device)
    study = _Study(
        name=recipe_path(recipe).stem,
        recipe=settings,
        dataset=config,
        dataset_name=dataset_path(dataset).stem,
        bags_dir=bags_dir,
        folds=folds,
        bags=read_fold_bags(folds),
        device=torch_device,
    )
    bags_by_fold = _checked_folds(study, runs)
    check_labels_of_table(study.bags, folds, slides)
    curves = [_curves(tensorboard, study.name, head_run) for head_run in runs]
    if curves[0] is not None:
        # Before bags are read, since TensorBoard may not be installed.
        TensorBoardWriter(curves[0]).close()
    opened = _open(study, bags_by_fold, cache_mb << 20)
    jobs = [
        _job(study, opened, head_run, folder, is_one_of_several=len(runs) > 1)
        for head_run, folder in zip(runs, curves, strict=True)
    ]
    heads: list[Trained] = []
    for head_run, job in zip(runs, jobs, strict=True):
        with recipe_errors(recipe):
            trained = finished_head(job) or train_head(job, _record(study, opened, head_run))
        heads.append(trained)
        report(head_run, trained)
    # Not head by head: where a job fails, the workflow deletes its finished heads too,
    # and they are made again from their checkpoints in no time.
    for job in jobs:
        job.remove_checkpoints()
    return heads


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What all heads of a job have in common."""

    name: str
    recipe: Recipe
    dataset: DatasetConfig
    dataset_name: str
    bags_dir: Path
    folds: Path
    bags: Sequence[FoldBag]
    device: torch.device


class _Opened(NamedTuple):
    """Bags of the folds in memory, and the encoder and tiling that they share."""

    by_fold: Mapping[int, FoldData]
    identity: Mapping[str, str]


def _check_apart(runs: Sequence[HeadRun]) -> None:
    folders: dict[Path, HeadRun] = {}
    for head_run in runs:
        other = folders.setdefault(head_run.out.resolve(), head_run)
        if other is not head_run:
            raise DatasetError(
                f"--out: {head_run.out} would hold the heads of seed {other.seed} fold "
                f"{other.fold} and of seed {head_run.seed} fold {head_run.fold}; put {{seed}} and "
                "{fold} into its name"
            )


def _set_up(recipe: Recipe, threads: int, device: str) -> torch.device:
    """Set memory and threads of the process, and choose the device."""
    keep_freed_memory(LARGEST_REUSED_BLOCK)
    torch.set_num_threads(threads)
    torch_device = choose_device(device)
    # Called for its error: a precision that the device lacks is reported before bags are
    # read.
    choose_dtype(recipe.train.precision, torch_device)
    return torch_device


def _checked_folds(study: _Study, runs: Sequence[HeadRun]) -> dict[int, list[FoldBag]]:
    """Training and validation bags of each fold, with labels that suit the task."""
    bags_by_fold: dict[int, list[FoldBag]] = {}
    for fold in dict.fromkeys(head_run.fold for head_run in runs):
        bags = bags_of_fold(study.bags, fold, study.folds, study.dataset)
        labels = [bag.label for bag in bags if bag.split == "train"]
        # Called for its error, which comes before bags are read.
        make_task(study.recipe, study.dataset, labels)
        bags_by_fold[fold] = bags
    return bags_by_fold


def _curves(tensorboard: Path | None, name: str, head_run: HeadRun) -> Path | None:
    if tensorboard is None:
        return None
    return tensorboard / f"{name}_seed{head_run.seed}_fold{head_run.fold}"


def _open(study: _Study, bags_by_fold: Mapping[int, Sequence[FoldBag]], budget: int) -> _Opened:
    """Read the bags of all folds, each once, and plan the recipe of each fold."""
    bags_by_slides: dict[tuple[str, ...], FoldBag] = {}
    for bags in bags_by_fold.values():
        for bag in bags:
            bags_by_slides.setdefault(bag.slides, bag)
    bags_to_read = list(bags_by_slides.values())
    # An error unless all bags are of one encoder, its weights and tiling.
    identity = common_identity([path for bag in bags_to_read for path in bag.paths(study.bags_dir)])
    folder = study.recipe.train.init
    # Before the features of all bags are read.
    initial = read_initial(Path(folder), identity) if folder else None
    store = open_store(study.bags_dir, bags_to_read, budget=budget)
    places = {slides: place for place, slides in enumerate(bags_by_slides)}
    by_fold: dict[int, FoldData] = {}
    reported: set[str] = set()
    for fold, bags in bags_by_fold.items():
        data = fold_data(
            bags,
            [places[bag.slides] for bag in bags],
            store,
            recipe=study.recipe,
            dataset=study.dataset,
            size=study_size(study.bags),
            device=study.device,
            initial=initial,
        )
        by_fold[fold] = data
        if data.planned_from is not None:
            plan = described(study.recipe, data.recipe, data.planned_from)
            # Folds of one study mostly have the same plan, which is printed once.
            if plan in reported:
                continue
            reported.add(plan)
            print(f"train {study.name} fold {fold}: {plan}", file=sys.stderr, flush=True)
    return _Opened(by_fold, identity)


def _job(
    study: _Study,
    opened: _Opened,
    head_run: HeadRun,
    curves: Path | None,
    *,
    is_one_of_several: bool,
) -> HeadJob:
    fold = opened.by_fold[head_run.fold]
    bags = [_bags_on_disk(study.bags_dir, fold.bags_of(split)) for split in ("train", "val")]
    initial = fold.initial
    started_from = "" if initial is None else initial.sha256
    inputs = {
        **_inputs(fold.recipe, fold.task, study.device),
        "bags": bags,
        # Without what is off, so that finished heads of earlier runs are not trained again.
        **{name: value for name, value in opened.identity.items() if value or name != "stain_norm"},
        "seed": head_run.seed,
        "fold": head_run.fold,
        **({"init": started_from} if started_from else {}),
    }
    return HeadJob(
        title=f"train {study.name} seed {head_run.seed} fold {head_run.fold}",
        fold=fold,
        seed=head_run.seed,
        out=head_run.out,
        inputs=inputs,
        curves=curves,
        is_one_of_several=is_one_of_several,
    )


def _record(study: _Study, opened: _Opened, head_run: HeadRun) -> Trained:
    """Record of a head before its training."""
    fold = opened.by_fold[head_run.fold]
    with_test = [bag for bag in study.bags if bag.fold == head_run.fold]
    return Trained(
        recipe_name=study.name,
        recipe=fold.recipe,
        **opened.identity,
        dim=fold.dim,
        task=fold.task,
        dataset=study.dataset_name,
        seed=head_run.seed,
        fold=head_run.fold,
        epoch=0,
        planned_from=fold.planned_from,
        started_from=None if fold.initial is None else fold.initial.entry(fold.recipe, fold.task),
        fusion="early" if is_early(with_test) else "late",
        seen=digest_of_seen(fold.bags),
    )


def _bags_on_disk(bags_dir: Path, bags: Sequence[FoldBag]) -> list[list[object]]:
    """Name, slides and label of each bag, with size and time of change of its files.

    A digest of their content would take as long as an epoch.
    """
    rows: list[list[object]] = []
    for bag in bags:
        stats = [path.stat() for path in bag.paths(bags_dir)]
        files = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
        rows.append([bag.name, bag.slides, bag.label, *files])
    return rows


def _inputs(recipe: Recipe, task: AnyTask, device: torch.device) -> dict[str, object]:
    """What decides the last bit of the weights besides bags, seed and fold."""
    entry = check_head(recipe.name)
    plugin_version = entry.dist.version if entry is not None and entry.dist is not None else ""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "task": task.model_dump(mode="json"),
        "versions": [TOOL_VERSION, STAGE_VERSION["train"], torch.__version__, plugin_version],
        # Sums are split among threads, and kernels chosen by the CPU's instructions.
        "machine": [device.type, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()],
    }
