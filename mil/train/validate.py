"""Validation of a head, and calibration of its probabilities on the validation bags."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mil.losses.tasks import predictions, task_loss
from mil.statistics.scaling import calibrate_logits
from mil.tasks import AnyTask
from mil.train.data import BagSource, small_batches
from mil.trained import Calibration

# F1 that a selection adds to the AUROC; micro-F1 of slides with one label each is the
# accuracy.
F1_OF = {"f1_auc": "f1_macro", "f1_micro_auc": "accuracy"}


@torch.inference_mode()
def logits_of(
    head: nn.Module, bags: BagSource, device: torch.device
) -> tuple[Float[Tensor, "bags outputs"], Shaped[Tensor, "bags ..."]]:
    """Logits and targets of at least one bag, in float32.

    Args:
        head: Head in evaluation mode.
        bags: Bags with their labels.
        device: Device of the head.
    """
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    # Only logits are collected: no large bag stays in memory.
    for joined, target in small_batches(bags, device):
        logits.append(head(joined).logits)
        targets.append(target)
    return torch.cat(logits), torch.cat(targets)


def validate(
    head: nn.Module, bags: BagSource, task: AnyTask, select: str, device: torch.device
) -> dict[str, float]:
    """Validation loss, metrics of the task, and the `score` that selects an epoch.

    Args:
        head: Head in evaluation mode.
        bags: Validation bags; without any the result is empty.
        task: Task of the head.
        select: `f1_auc`: the score is macro-F1 + AUROC; `f1_micro_auc`: micro-F1 +
            AUROC; else it is minus the loss.
        device: Device of the head.
    """
    if not bags:
        return {}
    logits, targets = logits_of(head, bags, device)
    return validation_metrics(logits, targets, task, select)


def validation_metrics(
    logits: Float[Tensor, "bags outputs"],
    targets: Shaped[Tensor, "bags ..."],
    task: AnyTask,
    select: str,
) -> dict[str, float]:
    """Validation loss, metrics and `score` of the logits of all validation bags."""
    # The loss of the task alone, without the other terms of the recipe.
    loss = float(task_loss(task, logits, targets).mean())
    values = task.validation_metrics(targets.cpu().numpy(), predictions(task, logits).cpu().numpy())
    # A metric is None where it is undefined, such as the AUROC of a single class.
    metrics = {name: value for name, value in values.items() if value is not None}
    score = -loss
    if select in F1_OF:
        score = metrics[F1_OF[select]] + metrics.get("auroc_macro", 0.0)
    return {"loss": loss, **metrics, "score": score}


def calibrate(
    logits: Float[Tensor, "bags outputs"],
    targets: Shaped[Tensor, "bags ..."],
    task: AnyTask,
    patients: Sequence[str],
) -> Calibration | None:
    """Calibration of a head on the validation bags; see `calibrate_logits`.

    Args:
        logits: Logits of the validation bags by the head of the selected epoch.
        targets: Their targets.
        task: Task of the head.
        patients: Patient of each bag.

    Returns:
        None without validation bags, or for a task other than classification.
    """
    if not len(logits) or not task.one_of_classes:
        return None
    positive = task.classes.index(task.positive) if task.has_threshold else None
    return calibrate_logits(logits.cpu().numpy(), targets.cpu().numpy(), positive, patients)
