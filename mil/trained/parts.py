"""A logit split over the branches of a head, for heads whose logits are a sum. No torch."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.statistics.text import column_title
from mil.tasks import Classification, Task


class SplitLogit(NamedTuple):
    """What each branch adds to a number that is linear in a head's logits; uncalibrated.

    The parts and the bias sum to the value.
    """

    # Such as `log-odds of tumour`.
    name: str
    value: float
    bias: float
    parts: Float[np.ndarray, " branches"]


def split_logit(
    task: Task,
    logits: Float[np.ndarray, " outputs"],
    parts: Float[np.ndarray, "branches outputs"],
) -> SplitLogit | None:
    """Split of the number that the prediction of interest comes from.

    Args:
        task: Task of the head.
        logits: Logits of a bag.
        parts: Parts of the branches in them.

    Returns:
        None where no number that is linear in the logits decides the prediction.
    """
    weights = _weights(task)
    if weights is None:
        return None
    name, of_outputs = weights
    values = parts @ of_outputs
    value = float(logits @ of_outputs)
    # The bias is what no branch adds: score files hold the parts, and not the head's bias.
    return SplitLogit(name, value, value - float(values.sum()), values)


def _weights(task: Task) -> tuple[str, Float[np.ndarray, " outputs"]] | None:
    """Name of the number, and the weight of each logit in it."""
    one = np.eye(task.outputs)
    if isinstance(task, Classification) and len(task.classes) == 2:
        return f"log-odds of {task.positive}", 2 * one[task.classes.index(task.positive)] - 1
    if task.attended is not None:
        return f"logit of {column_title(task.column_of_interest)}", one[task.attended]
    if task.outputs == 1:
        return column_title(task.column_of_interest), one[0]
    return None
