"""Bags, folds and a recipe in; a head's folder out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mil.config import LossWeight, Recipe, dataset_path, load_dataset, load_recipe, recipe_path
from mil.device import choose_device, keep_freed_memory
from mil.errors import DatasetError
from mil.heads import UsesGraph, build_head
from mil.io.bags import common_identity
from mil.io.tables import read_folds
from mil.progress import progress
from mil.statistics.classified import classification
from mil.tasks import AnyTask, fit_task
from mil.train.bags import LabelledBag, batches, load_bags, with_graphs
from mil.train.loop import LARGEST_KEPT, History, fit
from mil.train.precision import choose_dtype
from mil.train.prepare import FIRST_STAGE, prepare
from mil.trained import Trained, save_trained


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
) -> Trained:
    """Train one head.

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
    """
    settings, what = load_recipe(recipe), load_dataset(dataset)
    keep_freed_memory(LARGEST_KEPT)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    on = choose_device(device)
    rows = [row for row in read_folds(folds) if int(row["fold"]) == fold]
    named = {split: [(r["slide"], r["label"]) for r in rows if r["split"] == split] for split in ("train", "val")}
    if not named["train"]:
        raise DatasetError(f"{folds}: fold {fold} has no training slides")
    identity = common_identity([bags_dir / f"{slide}.h5" for split in named.values() for slide, _ in split])
    task = fit_task(what, [label for _, label in named["train"]], balanced=False)
    train, valid = (load_bags(bags_dir, named[split], task) for split in ("train", "val"))
    dim = train[0].features.shape[1]
    head = build_head(settings.name, settings.options, dim=dim, classes=task.outputs).to(on)
    name = recipe_path(recipe).stem
    title = f"train {name} seed {seed} fold {fold}"

    def train_first(first: nn.Module) -> None:
        first.load_state_dict(_fit(first, train, valid, task, settings, FIRST_STAGE, seed, f"{title}, first stage")[0])

    prepare(head, train, train_first)
    if isinstance(head, UsesGraph):
        with progress(f"{title}, graphs", len(train) + len(valid), "slides") as advance:
            train, valid = (with_graphs(split, head, advance) for split in (train, valid))
    best, history = _fit(head, train, valid, task, settings, settings.losses, seed, title)
    trained = Trained(
        recipe_name=name, recipe=settings, **identity, dim=dim, task=task,
        dataset=dataset_path(dataset).stem, seed=seed, fold=fold, epoch=history.best_epoch,
    )  # fmt: skip
    save_trained(out, trained, best, {"train": history.train, "valid": history.valid, "best_epoch": history.best_epoch})
    return trained


def _fit(
    head: nn.Module, train: Sequence[LabelledBag], valid: Sequence[LabelledBag], task: AnyTask, recipe: Recipe,
    losses: Mapping[str, LossWeight], seed: int, title: str,
) -> tuple[dict[str, Tensor], History]:  # fmt: skip
    """Weights of the best epoch, and what happened."""
    best: dict[str, Tensor] = {}

    def keep(trained: nn.Module) -> None:
        best.update({name: tensor.detach().clone() for name, tensor in trained.state_dict().items()})

    how = recipe.train if valid else recipe.train.model_copy(update={"select": "last"})
    device = next(head.parameters()).device
    order = torch.Generator().manual_seed(seed)
    with progress(title, how.epochs, "epochs") as advance:
        history = fit(
            head, lambda: batches(train, how.batch_bags, device, order, choose_dtype(how.precision, device)),
            lambda h: _validate(h, valid, task, recipe, device), task=task, losses=losses, config=how,
            steps=-(-len(train) // how.batch_bags), keep=keep, advance=advance,
        )  # fmt: skip
    return best, history


@torch.inference_mode()
def _validate(
    head: nn.Module, valid: Sequence[LabelledBag], task: AnyTask, recipe: Recipe, device: torch.device
) -> dict[str, float]:
    if not valid:
        return {}
    found = [(head(bags).logits, labels) for bags, labels in batches(valid, 1, device)]  # no bag is kept
    logits, labels = (torch.cat(column) for column in zip(*found, strict=True))
    loss = float(task.loss(logits, labels).mean())
    values = classification(labels.cpu().numpy(), task.answers(logits).cpu().numpy())
    metrics = {name: value for name, value in values.items() if value is not None}
    score = -loss if recipe.train.select == "loss" else metrics["f1_macro"] + metrics.get("auroc_macro", 0.0)
    return {"loss": loss, **metrics, "score": score}
