"""What makes a trained head's answers probabilities, learnt from the validation slides."""

import torch
from torch import nn

from mil.losses.tasks import predictions
from mil.statistics.calibration import fit_temperature
from mil.statistics.threshold import youden_threshold
from mil.tasks import AnyTask
from mil.train.bags import Source
from mil.train.validate import logits_of
from mil.trained import Calibration


def calibrate(
    head: nn.Module, valid: Source, task: AnyTask, device: torch.device
) -> Calibration | None:
    """Temperature of the logits and, of two classes, the threshold of the calibrated probability of the positive one.

    Args:
        head: with the weights that are kept, in evaluation.
        valid: the validation slides.
        task: of the head.
        device: where the head is.

    Returns:
        None without validation slides, or where the answers are not probabilities of
        one class of several.
    """
    if not valid or not task.one_of_classes:
        return None
    logits, targets = (found.cpu() for found in logits_of(head, valid, device))
    temperature = fit_temperature(logits.numpy(), targets.numpy())
    threshold = None
    if len(task.classes) == 2:
        positive = task.classes.index(task.positive)
        scores = predictions(task, logits / temperature)[:, positive].double().numpy()
        threshold = youden_threshold((targets == positive).long().numpy(), scores)
    return Calibration(temperature=temperature, threshold=threshold)
