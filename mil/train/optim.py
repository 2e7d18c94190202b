"""The optimiser, and the values that change from step to step.

Schedules count in fractional epochs: epoch + step / steps per epoch.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from mil.config import LossWeight, TrainConfig

# Defaults of torch.
BETAS = (0.9, 0.999)
EPSILON = 1e-8
# Names of the state tensors in checkpoints: a change would make old checkpoints useless.
_STATE_NAMES = ("step", "mean", "square")


class AdamW:
    """AdamW, Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101.

    Bit by bit `torch.optim.AdamW(fused=True)`, without the compiler of torch that
    importing that class loads, which takes as long as the rest of a small training.
    `param_groups`, `zero_grad` and `step` are those of torch, as a `GradScaler` needs.

    Args:
        parameters: Parameters to optimise.
        lr: Learning rate; `param_groups[0]["lr"]` changes it.
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        group: dict[str, Any] = {"params": list(parameters), "lr": lr, "weight_decay": weight_decay}
        self.param_groups = [group]
        params: list[nn.Parameter] = group["params"]
        self._state: dict[str, list[Tensor]] = {
            # The fused step wants its count as a tensor on the device of each parameter.
            "step": [torch.zeros((), dtype=torch.float32, device=p.device) for p in params],
            "mean": [torch.zeros_like(p, memory_format=torch.preserve_format) for p in params],
            "square": [torch.zeros_like(p, memory_format=torch.preserve_format) for p in params],
        }

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients; they are set to None, whatever `set_to_none` is."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient."""
        group = self.param_groups[0]
        # As in torch, a parameter without a gradient keeps its count of steps too.
        indices = [i for i, parameter in enumerate(group["params"]) if parameter.grad is not None]
        parameters = [group["params"][i] for i in indices]
        steps, means, squares = ([self._state[name][i] for i in indices] for name in _STATE_NAMES)
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            means,
            squares,
            # Maxima of the squares, which only AMSGrad has.
            [],
            steps,
            # One pass over all parameters.
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Tensors that a step depends on besides parameters and gradients; not copies."""
        return {
            f"{name}.{i}": tensor
            for name in _STATE_NAMES
            for i, tensor in enumerate(self._state[name])
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of an earlier `state` into this optimiser."""
        # In place, so that each tensor stays on the device of its parameter.
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def make_optimiser(head: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW over the trainable parameters of a head."""
    trainable = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Learning rate: linear warm-up, then half a cosine from `lr` to `min_lr`.

    ACMIL and other heads were published with this schedule.

    Args:
        config: Section `train` of the recipe.
        epoch: Fractional epoch from 0.
    """
    if epoch < config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    decay_epochs = config.epochs - config.warmup_epochs
    # A warm-up as long as the training leaves nothing to decay over.
    progress = (epoch - config.warmup_epochs) / decay_epochs if decay_epochs > 0 else 0.0
    return config.min_lr + (config.lr - config.min_lr) * _half_cosine(progress)


def loss_weight(weight: LossWeight, epoch: float, epochs: int) -> float:
    """Weight of a loss term: constant, or half a cosine from `start` to `end`.

    AEM anneals the weight of its entropy term in this way.

    Args:
        weight: Weight of the term at the start and, if it changes, at the end.
        epoch: Fractional epoch from 0.
        epochs: Epochs of the whole training.
    """
    if weight.end is None:
        return weight.start
    return weight.end + (weight.start - weight.end) * _half_cosine(epoch / epochs)


def _half_cosine(progress: float) -> float:
    """Factor that falls from 1 to 0 while `progress` rises from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
