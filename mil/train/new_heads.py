"""Heads before their training: their first weights, their first stage, their graphs."""

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import nn

from mil.config import Recipe
from mil.heads import UsesGraph, build_head
from mil.progress import progress
from mil.train.job import TrainingReport
from mil.train.loop import TrainingData, fit
from mil.train.parts import HeadPart
from mil.train.prepare import FIRST_STAGE_LOSSES, check_compatible, prepare
from mil.trained.scaling import FeatureScaling


def new_heads(part: HeadPart, scaling: FeatureScaling | None) -> list[nn.Module]:
    """Heads to train on a part, one for each restart; the store then has their graphs.

    Args:
        part: Part of a head.
        scaling: Scaling of the features; None: none.

    Raises:
        ConfigError: Recipe, head and task do not go together.
        DatasetError: A loss of the first stage is NaN or infinite.
    """
    data = part.job.fold.training_data(part.split, scaling)
    heads: list[nn.Module] = []
    for number in part.numbers:
        torch.manual_seed(part.job.seed_of(number))
        heads.append(_new_head(part, data, number))
    if isinstance(heads[0], UsesGraph):
        _add_graphs(part, heads[0], scaling)
    return heads


def _new_head(part: HeadPart, data: TrainingData, number: int) -> nn.Module:
    """A head with its first weights, after the first stage if it has one."""
    job = part.job
    recipe = job.recipe
    head = build_head(recipe.name, recipe.options, dim=job.fold.head_dim, classes=data.task.outputs)
    if job.fold.initial is not None:
        job.fold.initial.start(head, number, recipe, data.task)
    head.to(data.device)
    check_compatible(data.task, recipe, head)

    def train_first(first: nn.Module) -> None:
        title = f"{job.title}, first stage"
        with progress(title, recipe.train.epochs, "epochs") as advance:
            result = fit(
                first,
                data,
                FIRST_STAGE_LOSSES,
                recipe.train,
                seed=part.order_seed,
                checkpoint=part.checkpoint(number, "first"),
                report=TrainingReport(advance, recipe.train),
            )
        # The main training follows the best epoch of the first head, not its last.
        first.load_state_dict(result.weights)

    prepare(head, data.train, train_first)
    return head


def _add_graphs(part: HeadPart, head: UsesGraph, scaling: FeatureScaling | None) -> None:
    """Build the graphs of a part's bags, unless the store has them from another head."""
    job = part.job
    store = job.fold.store
    indices = job.fold.store_indices([*part.split.train, *part.split.valid])
    key = _graph_key(job.recipe, head, indices, scaling)
    if store.graph_key == key:
        return
    with progress(f"{job.title}, graphs", len(indices), "slides") as advance:
        store.add_graphs(head, advance, indices=indices, scaling=scaling, key=key)


def _graph_key(
    recipe: Recipe, head: UsesGraph, indices: Sequence[int], scaling: FeatureScaling | None
) -> str:
    """Digest of what graphs depend on: bags, options, and what the training bags gave."""
    assert isinstance(head, nn.Module)
    digest = sha256(repr((sorted(indices), recipe.name, recipe.options)).encode())
    for module in (head, scaling):
        for buffer in module.buffers() if module is not None else ():
            digest.update(buffer.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
