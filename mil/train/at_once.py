"""Training of heads that are fitted at once, such as a linear probe."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mil.config import LossWeight, TrainConfig
from mil.errors import ConfigError, DatasetError
from mil.heads import TERM_AT_ONCE, Division, FitProblem, FitsAtOnce
from mil.io.bags.patients import FoldBag
from mil.losses.tasks import task_loss
from mil.train.data import small_batches
from mil.train.inner import inner_folds, largest_count
from mil.train.loop import FitResult, TrainingData
from mil.train.state import History, weights_of
from mil.train.validate import logits_of

# Nested folds of the training bags, by which a probe chooses its strength.
NESTED_FOLDS = 5


@torch.no_grad()
def fit_at_once(
    head: FitsAtOnce,
    data: TrainingData,
    bags: Sequence[FoldBag],
    losses: Mapping[str, LossWeight],
    config: TrainConfig,
    *,
    seed: int,
) -> tuple[FitResult, str]:
    """Fit a head to its training bags; validation bags are only validated on.

    Args:
        head: Head, fitted in place.
        data: Training and validation bags.
        bags: The training bags in the same order, with their patients.
        losses: Weight of each loss term.
        config: Section `train` of the recipe.
        seed: Random seed of the nested folds.

    Returns:
        Weights and a history of one epoch, and a line about what was chosen.

    Raises:
        ConfigError: The recipe has other terms than the loss of the task.
        DatasetError: A loss is NaN or infinite.
    """
    if list(losses) != [TERM_AT_ONCE]:
        raise ConfigError(
            f"losses: this head is fitted at once, to the loss of the task alone; write "
            f"{TERM_AT_ONCE}: 1.0 and no other term"
        )
    assert isinstance(head, nn.Module)
    head.eval()
    rows, targets = _rows_and_targets(head, data)
    problem = FitProblem(targets, partial(task_loss, data.task), _divisions(data, bags, seed))
    line = head.fit_rows(rows, problem)
    logits, _ = logits_of(head, data.train, data.device)
    loss = float(task_loss(data.task, logits.cpu(), targets).mean())
    select = config.select if data.valid else "last"
    metrics = data.validate(head, select)
    if not torch.tensor([loss, *metrics.values()]).isfinite().all():
        raise DatasetError(
            "training: the loss of a head that is fitted at once is not a number; look at the "
            "features with `mil bags verify`"
        )
    history = History([{TERM_AT_ONCE: loss, "loss": loss}], [metrics])
    history.note_best(select)
    return FitResult(weights_of(head), history), line


def _rows_and_targets(head: FitsAtOnce, data: TrainingData) -> tuple[Tensor, Tensor]:
    """Row of each training bag, float64 on the CPU, and its target."""
    rows = []
    targets = []
    for batch, batch_targets in small_batches(data.train, data.device):
        rows.append(head.rows(batch).double().cpu())
        targets.append(batch_targets.cpu())
    return torch.cat(rows), torch.cat(targets)


def _divisions(data: TrainingData, bags: Sequence[FoldBag], seed: int) -> list[Division]:
    """Nested folds by patient, as many as the rarest class has patients for; or none."""
    strata = data.task.strata([bag.label for bag in bags])
    count = min(NESTED_FOLDS, largest_count(bags, strata))
    if count < 2:
        return []
    return [Division(part.train, part.valid) for part in inner_folds(bags, strata, count, seed)]
