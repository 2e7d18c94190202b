"""Stage `train`: bags, folds and a recipe give the folder of a trained head."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mil.config import (
    LossWeight,
    Recipe,
    check_head,
    dataset_path,
    load_recipe,
    recipe_path,
)
from mil.device import choose_device, keep_freed_memory
from mil.errors import DatasetError
from mil.heads import UsesGraph, build_head
from mil.io.bags import common_identity
from mil.io.bags.patients import FoldBag, check_labels, digest_of_seen, is_early, read_fold_bags
from mil.progress import progress
from mil.tasks import AnyTask, load_dataset
from mil.train.loop import LARGEST_REUSED_BLOCK, FitResult, TrainingData, fit
from mil.train.precision import choose_dtype
from mil.train.prepare import FIRST_STAGE_LOSSES, check_compatible, make_task, prepare
from mil.train.state import Checkpoint, History, weights_of
from mil.train.store import BagStore, open_store
from mil.train.tensorboard import TensorBoardWriter
from mil.train.validate import calibrate
from mil.trained import Trained, save_trained
from mil.trained.seal import write_manifest
from mil.versions import STAGE_VERSION, TOOL_VERSION

CACHE_MB = 8000  # Memory for bags, MiB.


class Job(NamedTuple):
    """One run of the stage: what the trainings of its head have in common.

    Attributes:
        title: Name in messages and progress bars.
        recipe: Recipe of the head.
        data: Training and validation bags.
        seed: Random seed.
        out: Folder of the head, with checkpoints while the run lasts.
        inputs: Everything that decides the last bit of the weights, as JSON values.
        curves: TensorBoard writer; None: no curves.
    """

    title: str
    recipe: Recipe
    data: TrainingData
    seed: int
    out: Path
    inputs: Mapping[str, object]
    curves: TensorBoardWriter | None


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
    """Train one head; an interrupted training resumes from its checkpoint.

    Args:
        dataset: Name or yaml file of the dataset.
        bags_dir: Folder of the bags.
        folds: File folds.csv; bags of its test slides are not opened.
        out: Folder of the head.
        recipe: Name or file of the recipe.
        fold: Fold of folds.csv.
        seed: Random seed for initialisation, bag order, masking and dropout.
        threads: CPU threads.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        cache_mb: Memory for bags, MiB; bags that do not fit are read again in every
            epoch.
        tensorboard: Folder for training curves, a subfolder each; None: no curves.

    Raises:
        ConfigError: Recipe, head, task and device do not go together.
        DatasetError: The fold has no training slides, a label does not suit the task,
            or a loss becomes NaN.
        FormatError: A bag cannot be read, has no tiles, or was made by another encoder.
    """
    settings = load_recipe(recipe)
    dataset_config = load_dataset(dataset)
    torch_device = _set_up(settings, seed, threads, device)

    fold_bags = [bag for bag in read_fold_bags(folds) if bag.fold == fold]
    train = [bag for bag in fold_bags if bag.split == "train"]
    valid = [bag for bag in fold_bags if bag.split == "val"]
    if not train:
        raise DatasetError(f"{folds}: fold {fold} has no training slides")
    # Without the test bags, which training never opens.
    used = [*train, *valid]
    check_labels(used, folds, dataset_config.task, dataset_config.classes)
    labels = [bag.label for bag in train]
    task = make_task(settings, dataset_config, labels)

    name = recipe_path(recipe).stem
    # Before bags are read, since TensorBoard may not be installed.
    curves = None
    if tensorboard is not None:
        curves = TensorBoardWriter(tensorboard / f"{name}_seed{seed}_fold{fold}")

    # An error unless all bags are of one encoder, its weights and tiling.
    identity = common_identity([path for bag in used for path in bag.paths(bags_dir)])
    store = open_store(bags_dir, used, task, budget=cache_mb << 20)
    data = TrainingData(
        task=task,
        train=store.subset(range(len(train))),
        train_labels=labels,
        valid=store.subset(range(len(train), len(used))),
        device=torch_device,
    )
    inputs = {
        **_inputs(settings, task, torch_device),
        "bags": [_bags_on_disk(bags_dir, train), _bags_on_disk(bags_dir, valid)],
        **identity,
        "seed": seed,
        "fold": fold,
    }
    job = Job(f"train {name} seed {seed} fold {fold}", settings, data, seed, out, inputs, curves)

    head = build_head(settings.name, settings.options, dim=store.dim, classes=task.outputs)
    head.to(torch_device)
    check_compatible(task, settings, head)
    with _interruption_message(job):
        result = _train(head, job, store)

    # Calibration is of the selected epoch, which may not be the last.
    last_weights = weights_of(head)
    head.load_state_dict(result.weights)
    trained = Trained(
        recipe_name=name,
        recipe=settings,
        **identity,
        dim=store.dim,
        task=task,
        dataset=dataset_path(dataset).stem,
        seed=seed,
        fold=fold,
        epoch=result.history.best_epoch,
        fusion="early" if is_early(fold_bags) else "late",
        calibration=calibrate(
            head.eval(), data.valid, task, torch_device, [bag.patient for bag in valid]
        ),
        seen=digest_of_seen(fold_bags),
    )
    _save(job, trained, result, last_weights)
    return trained


def _set_up(recipe: Recipe, seed: int, threads: int, device: str) -> torch.device:
    """Set memory, threads and seed of the process, and choose the device."""
    keep_freed_memory(LARGEST_REUSED_BLOCK)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch_device = choose_device(device)
    # Called for its error: a precision that the device lacks is reported before bags are
    # read.
    choose_dtype(recipe.train.precision, torch_device)
    return torch_device


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


def _train(head: nn.Module, job: Job, store: BagStore) -> FitResult:
    """Train the first stage if there is one, build graphs, and train the head."""

    def train_first(first: nn.Module) -> None:
        # The main training follows the best epoch of the first head, not its last.
        first.load_state_dict(_fit_job(first, job, FIRST_STAGE_LOSSES, "first").weights)

    prepare(head, job.data.train, train_first)
    if isinstance(head, UsesGraph):
        num_bags = len(job.data.train) + len(job.data.valid)
        with progress(f"{job.title}, graphs", num_bags, "slides") as advance:
            store.add_graphs(head, advance)
    return _fit_job(head, job, job.recipe.losses)


def _fit_job(
    head: nn.Module, job: Job, losses: Mapping[str, LossWeight], stage: str = ""
) -> FitResult:
    """Fit a head with a checkpoint file, a progress bar and curves.

    Args:
        head: Head, trained in place.
        job: The run.
        losses: Weight of each loss term.
        stage: Name of a training before the main one, which is "". Each has a
            checkpoint of its own.
    """
    config = job.recipe.train
    title = f"{job.title}, {stage} stage" if stage else job.title
    file = f"checkpoint_{stage}.safetensors" if stage else "checkpoint.safetensors"
    inputs = {**job.inputs, "stage": stage}
    checkpoint = Checkpoint(job.out / file, inputs, title, save_last=bool(stage))
    num_reported = 0
    with progress(title, config.epochs, "epochs") as advance:

        def report(history: History) -> None:
            nonlocal num_reported
            # A resumed training reports several epochs at once.
            advance(len(history.train) - num_reported)
            num_reported = len(history.train)
            if job.curves is not None and not stage:
                job.curves.write(history, config)

        return fit(
            head, job.data, losses, config, seed=job.seed, checkpoint=checkpoint, report=report
        )


@contextmanager
def _interruption_message(job: Job) -> Iterator[None]:
    """Tell after Ctrl-C where the same command will resume."""
    try:
        yield
    except KeyboardInterrupt:
        files = _checkpoint_files(job)
        outcome = "starts over, since no checkpoint was saved yet"
        if files:
            outcome = f"resumes from {files[0]}"
        message = f"{job.title}: interrupted; the same command {outcome}"
        print(message, file=sys.stderr, flush=True)
        raise


def _save(job: Job, trained: Trained, result: FitResult, last_weights: dict[str, Tensor]) -> None:
    """Write the head's folder and remove its checkpoints."""
    # The score that selected the epoch is also in the metrics of that epoch.
    history = {key: getattr(result.history, key) for key in ("train", "valid", "best_epoch")}
    save_trained(job.out, trained, result.weights, history, last=last_weights)
    write_manifest(job.out)
    # Last: killed before this, the same command resumes with nothing left to train.
    for checkpoint in _checkpoint_files(job):
        checkpoint.unlink()
    if job.curves is not None:
        job.curves.close()


def _checkpoint_files(job: Job) -> list[Path]:
    return sorted(job.out.glob("checkpoint*.safetensors"))
