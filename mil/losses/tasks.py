"""Loss and predictions of each task, with torch.

A task itself (`mil.tasks`) is free of torch, so that reports and splits start fast;
what needs gradients, or the bits that a head computes, is here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from mil.tasks import (
    Classification,
    Multilabel,
    Ordinal,
    Regression,
    SurvivalCox,
    SurvivalDiscrete,
    Task,
)


def target_tensor(task: Task, label: str) -> Shaped[Tensor, "..."]:
    """Target of a slide for the loss: int64 for a class, else float32."""
    # Heads compute in float32; metrics keep the label's float64.
    target = torch.as_tensor(task.target(label))
    return target.float() if target.is_floating_point() else target


def task_loss(
    task: Task, logits: Float[Tensor, "n outputs"], targets: Shaped[Tensor, "n ..."]
) -> Float[Tensor, " n"]:
    """Loss of each bag, times the weight of its class if classes have weights."""
    return OF_TASK[task.kind].loss(task, logits, targets)


def predictions(task: Task, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
    """Predictions of each bag, in the order of `task.columns`."""
    return OF_TASK[task.kind].predictions(task, logits)


def classification_loss(
    task: Classification, logits: Float[Tensor, "n outputs"], targets: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Cross-entropy of each bag, nats, times the weight of its class.

    The weighted mean of torch divides by the weights of the batch, which cancels them
    where a step has one bag.
    """
    loss = functional.cross_entropy(logits, targets, reduction="none")
    return loss if task.weights is None else loss * loss.new_tensor(task.weights)[targets]


def classification_predictions(
    task: Classification, logits: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n columns"]:
    """Probabilities of the classes, which sum to 1."""
    return logits.softmax(-1)


def multilabel_loss(
    task: Multilabel, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n outputs"]
) -> Float[Tensor, " n"]:
    """Binary cross-entropy of each bag, mean over classes, nats."""
    targets = targets.to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if task.weights is not None:
        negative, positive = loss.new_tensor(task.weights).unbind(1)
        loss = loss * torch.where(targets > 0, positive, negative)
    return loss.mean(1)


def multilabel_predictions(
    task: Multilabel, logits: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n columns"]:
    """Probability of each class."""
    return logits.sigmoid()


def ordinal_loss(
    task: Ordinal, logits: Float[Tensor, "n outputs"], targets: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Minus the log probability of the bag's class, nats.

    It is the sum of the binary cross-entropies of the logits that the class depends
    on. The published loss divides by their number instead.
    """
    loss = -_ordinal_log_probabilities(logits).gather(1, targets[:, None])[:, 0]
    return loss if task.weights is None else loss * loss.new_tensor(task.weights)[targets]


def ordinal_predictions(
    task: Ordinal, logits: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n columns"]:
    """Probabilities of the classes, which sum to 1."""
    return _ordinal_log_probabilities(logits).exp()


def _ordinal_log_probabilities(
    logits: Float[Tensor, "n outputs"],
) -> Float[Tensor, "n classes"]:
    """Log of: above all classes before, and not above this one.

    Of the last class the former alone.
    """
    above = functional.logsigmoid(logits).cumsum(1)
    # Every slide is at least of the first class, and none is above the last.
    certain = torch.zeros_like(above[:, :1])
    reached = torch.cat([certain, above], 1)
    stopped = torch.cat([functional.logsigmoid(-logits), certain], 1)
    return reached + stopped


def regression_loss(
    task: Regression, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Squared error of each bag, in squared standard deviations of the training labels."""
    standardised = (targets.to(logits.dtype) - task.mean) / task.deviation
    return (logits[:, 0] - standardised).square()


def regression_predictions(
    task: Regression, logits: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n columns"]:
    """Predicted number, in the label's units."""
    return logits * task.deviation + task.mean


def survival_discrete_loss(
    task: SurvivalDiscrete, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n 2"]
) -> Float[Tensor, " n"]:
    """Minus the log likelihood of each bag, nats.

    A slide with an event survived the intervals that ended before it; a censored slide
    survived those of which at least half was observed.
    """
    time = targets[:, :1]
    event = targets[:, 1:] > 0
    ends = targets.new_tensor(task.ends)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    # Half of the interval, as Gensheimer and Narasimhan do: counting only whole
    # intervals would discard observed time.
    survived = torch.where(event, ends < time, (starts + ends) / 2 <= time)
    # An event at time 0 belongs to the first interval, which has no time before it.
    event_here = event & (time <= ends) & ((starts < time) | (starts == 0))
    log_survival = functional.logsigmoid(-logits)
    log_hazard = functional.logsigmoid(logits)
    return -(log_survival * survived + log_hazard * event_here).sum(1)


def survival_discrete_predictions(
    task: SurvivalDiscrete, logits: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n columns"]:
    """Risk, 0..1, then the probability to survive each interval.

    The risk is the probability that the event has come, mean over the ends.
    """
    survival = functional.logsigmoid(-logits).cumsum(1).exp()
    return torch.cat([1 - survival.mean(1, keepdim=True), survival], 1)


def survival_cox_loss(
    task: SurvivalCox, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n 2"]
) -> Float[Tensor, " n"]:
    """Minus the log partial likelihood, Breslow's for ties; 0 of censored bags. Nats.

    The risk set of a bag with an event is the bags of the batch whose time is not
    less. A bag alone gives 0.
    """
    # From the longest time down, the risk set of a bag is everything before it.
    order = targets[:, 0].argsort(descending=True)
    time = targets[order, 0]
    event = targets[order, 1]
    log_risk = logits[order, 0]
    # Index of the last bag with the same time: ties share one risk set.
    last_tied = torch.searchsorted(-time, -time, right=True) - 1
    # Sums of exponentials would overflow where a head's risks differ much.
    at_risk = log_risk.logcumsumexp(0)[last_tied]
    return torch.zeros_like(log_risk).index_copy(0, order, (at_risk - log_risk) * event)


def survival_cox_predictions(
    task: SurvivalCox, logits: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n columns"]:
    """Logarithm of the risk."""
    return logits


class TaskLoss(NamedTuple):
    """Torch side of a task."""

    # (task, logits, targets) -> loss of each bag
    loss: Callable[[Any, Tensor, Tensor], Tensor]
    # (task, logits) -> predictions of each bag
    predictions: Callable[[Any, Tensor], Tensor]


# By the name of a task's file in `mil/tasks`; a task without a row here cannot be
# trained.
OF_TASK: dict[str, TaskLoss] = {
    "classification": TaskLoss(classification_loss, classification_predictions),
    "multilabel": TaskLoss(multilabel_loss, multilabel_predictions),
    "ordinal": TaskLoss(ordinal_loss, ordinal_predictions),
    "regression": TaskLoss(regression_loss, regression_predictions),
    "survival_discrete": TaskLoss(survival_discrete_loss, survival_discrete_predictions),
    "survival_cox": TaskLoss(survival_cox_loss, survival_cox_predictions),
}
