"""AdamW, through torch's own fused step."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
EPSILON = 1e-8
_KINDS = ("step", "mean", "square")


class AdamW:
    """AdamW, Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101: bit by bit `torch.optim.AdamW(fused=True)`.

    To make that class imports torch's compiler, which takes as long as the rest of a
    small training; its step alone does not. `param_groups`, `zero_grad` and `step` are
    as there, so that a `GradScaler` accepts this one.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        group: dict[str, Any] = {"params": list(parameters), "lr": lr, "weight_decay": weight_decay}
        self.param_groups = [group]
        self._moments: dict[str, list[Tensor]] = {
            "step": [
                torch.zeros((), dtype=torch.float32, device=p.device) for p in group["params"]
            ],
            "mean": [
                torch.zeros_like(p, memory_format=torch.preserve_format) for p in group["params"]
            ],
            "square": [
                torch.zeros_like(p, memory_format=torch.preserve_format) for p in group["params"]
            ],
        }

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient."""
        group = self.param_groups[0]
        moved = [i for i, parameter in enumerate(group["params"]) if parameter.grad is not None]
        steps, means, squares = ([self._moments[kind][i] for i in moved] for kind in _KINDS)
        parameters = [group["params"][i] for i in moved]
        adamw(
            parameters,
            [p.grad for p in parameters],
            means,
            squares,
            [],
            steps,
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
        """Everything that a step depends on besides parameters and gradients; not a copy."""
        return {
            f"{kind}.{i}": tensor for kind in _KINDS for i, tensor in enumerate(self._moments[kind])
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for name, mine in self.state().items():
            mine.copy_(state[name])
