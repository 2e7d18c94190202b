"""What the validation slides say of a head."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mil.losses.tasks import predictions, task_loss
from mil.tasks import AnyTask
from mil.train.bags import Source, batches


@torch.inference_mode()
def logits_of(
    head: nn.Module, bags: Source, device: torch.device
) -> tuple[Float[Tensor, "bags outputs"], Shaped[Tensor, "bags ..."]]:
    """Logits of a head in evaluation, bag by bag in full precision, and the targets; there is at least one bag."""
    found = [
        (head(joined).logits, targets) for joined, targets in batches(bags, 1, device)
    ]  # no bag is kept
    logits, targets = (torch.cat(column) for column in zip(*found, strict=True))
    return logits, targets


def validate(
    head: nn.Module, bags: Source, task: AnyTask, select: str, device: torch.device
) -> dict[str, float]:
    """Metrics of a head, and its `score` (larger is better); empty without bags.

    Args:
        head: in evaluation.
        bags: the validation slides.
        task: of the head.
        select: what the score is: `f1_auc`, macro-F1 + AUROC; else minus the loss.
        device: where the head is.
    """
    if not bags:
        return {}
    logits, targets = logits_of(head, bags, device)
    loss = float(task_loss(task, logits, targets).mean())
    values = task.validation_metrics(targets.cpu().numpy(), predictions(task, logits).cpu().numpy())
    metrics = {name: value for name, value in values.items() if value is not None}
    score = metrics["f1_macro"] + metrics.get("auroc_macro", 0.0) if select == "f1_auc" else -loss
    return {"loss": loss, **metrics, "score": score}
