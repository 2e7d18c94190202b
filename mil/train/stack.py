"""Heads of one recipe with their parameters stacked: one batched product for all of them.

`torch.func.vmap` runs the code of a single head over the stacked parameters. The bags
are the same for all heads, so that only parameters have the additional dimension.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.func import functional_call, vmap

from mil.bags import Bags
from mil.config import TrainConfig
from mil.heads import FollowsSteps
from mil.kernels.dispatch import reference_alone
from mil.losses import total_loss
from mil.tasks import AnyTask
from mil.train.optim import AdamW, make_optimiser
from mil.train.precision import forward_autocast
from mil.train.random_state import RandomState, restored
from mil.train.stack_functions import StackedFunctions

Weights = dict[str, Tensor]


class HeadGroup(ABC):
    """Heads that go through a batch together.

    Args:
        heads: Heads of one class and one set of options.
        states: Random state of each head.
        config: Section `train` of the recipe.

    Attributes:
        optimiser: Optimiser of the heads.
        scaler: Gradient scaler; disabled without fp16.
    """

    optimiser: AdamW

    def __init__(
        self, heads: Sequence[nn.Module], states: Sequence[RandomState], config: TrainConfig
    ) -> None:
        self.heads = heads
        self.states = states
        # Found once: asking a protocol takes longer than a small layer.
        self._followers = [head for head in heads if isinstance(head, FollowsSteps)]
        self._device = next(heads[0].parameters()).device
        self.scaler = GradScaler(self._device.type, enabled=config.precision == "fp16")

    @property
    @abstractmethod
    def tensors(self) -> Weights:
        """Parameters and buffers by name; not copies."""

    @abstractmethod
    def losses(
        self, weights: Mapping[str, float], bags: Bags, targets: Tensor, task: AnyTask
    ) -> tuple[Float[Tensor, " heads"], dict[str, Tensor]]:
        """Loss of each head in training, and its terms, detached, as in `total_loss`."""

    @abstractmethod
    def logits(self, bags: Bags) -> Float[Tensor, "heads bags outputs"]:
        """Logits of each head in evaluation mode."""

    @abstractmethod
    def clip(self, max_norm: float) -> None:
        """Clip the gradient of each head to a norm, as `torch.nn.utils.clip_grad_norm_`."""

    def backward(self, losses: Float[Tensor, " heads"]) -> None:
        """Add the gradient of each head's loss to its parameters'."""
        # No head depends on the loss of another: the gradient of the sum is that of
        # each. A loss that is not a number spoils its own head alone.
        self.scaler.scale(losses.sum()).backward()

    def step(self, lr: float, clip_norm: float | None) -> None:
        """One step of the optimiser, and what each head does after a step."""
        # The scaler is annotated for torch's optimisers; ours has the methods it calls.
        optimiser = cast(Any, self.optimiser)
        optimiser.param_groups[0]["lr"] = lr
        if clip_norm is not None:
            # Clipping is of the true gradient, not of the scaled one.
            self.scaler.unscale_(optimiser)
            self.clip(clip_norm)
        self.scaler.step(optimiser)
        self.scaler.update()
        for head in self._followers:
            head.after_step()

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy earlier `tensors` into the heads."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @abstractmethod
    def release(self) -> None:
        """Leave each head with tensors of its own."""


class Single(HeadGroup):
    """One head, computed as `fit` computes it."""

    def __init__(
        self, heads: Sequence[nn.Module], states: Sequence[RandomState], config: TrainConfig
    ) -> None:
        super().__init__(heads, states, config)
        self._head = heads[0]
        self.optimiser = make_optimiser(self._head, config)

    @property
    def tensors(self) -> Weights:
        """Parameters and buffers by name; not copies."""
        named = [*self._head.named_parameters(), *self._head.named_buffers()]
        return {name: tensor.detach() for name, tensor in named}

    def losses(
        self, weights: Mapping[str, float], bags: Bags, targets: Tensor, task: AnyTask
    ) -> tuple[Float[Tensor, " heads"], dict[str, Tensor]]:
        """See `HeadGroup`."""
        head = self._head.train()
        with restored(self._device), self.states[0].active():
            loss, terms = total_loss(weights, forward_autocast(head, bags), bags, targets, task)
        return loss[None], {name: term[None] for name, term in terms.items()}

    def logits(self, bags: Bags) -> Float[Tensor, "heads bags outputs"]:
        """See `HeadGroup`."""
        logits: Tensor = self._head.eval()(bags).logits
        return logits[None]

    def clip(self, max_norm: float) -> None:
        """See `HeadGroup`."""
        nn.utils.clip_grad_norm_(self._head.parameters(), max_norm)

    def release(self) -> None:
        """Nothing to do: it has tensors of its own."""


class Stack(HeadGroup):
    """Several heads as one batched product.

    The tensors of each head are views of the stacked ones from here on until `release`:
    a step changes the heads, and what a head does after a step changes the stack.
    """

    def __init__(
        self, heads: Sequence[nn.Module], states: Sequence[RandomState], config: TrainConfig
    ) -> None:
        super().__init__(heads, states, config)
        self._functions = StackedFunctions(states, self._device)
        self._indices = torch.arange(len(heads), device=self._device)
        stacked = _stacked([dict(head.named_parameters()) for head in heads])
        self._parameters = {
            name: nn.Parameter(stacked[name], requires_grad=parameter.requires_grad)
            for name, parameter in heads[0].named_parameters()
        }
        self._buffers = _stacked([dict(head.named_buffers()) for head in heads])
        self._link(lambda stacked, i: stacked.detach()[i])
        parameters = [each for each in self._parameters.values() if each.requires_grad]
        # It works element by element: each head has the steps that it would have alone.
        self.optimiser = AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)

    @property
    def tensors(self) -> Weights:
        """Stacked parameters and buffers, by name, [heads, ...]; not copies."""
        return {name: tensor.detach() for name, tensor in self._parameters.items()} | self._buffers

    def release(self) -> None:
        """Give each head tensors of its own again."""
        self._link(lambda stacked, i: stacked.detach()[i].clone())

    @property
    def gradients(self) -> Weights:
        """Stacked gradients of the parameters that have one, by name, [heads, ...]."""
        return {
            name: tensor.grad
            for name, tensor in self._parameters.items()
            if tensor.grad is not None
        }

    def losses(
        self, weights: Mapping[str, float], bags: Bags, targets: Tensor, task: AnyTask
    ) -> tuple[Float[Tensor, " heads"], dict[str, Tensor]]:
        """See `HeadGroup`."""

        def loss_of(head: Callable[[Bags], Any]) -> tuple[Tensor, dict[str, Tensor]]:
            return total_loss(weights, forward_autocast(head, bags), bags, targets, task)

        self.heads[0].train()
        return self._for_each(loss_of)

    def logits(self, bags: Bags) -> Float[Tensor, "heads bags outputs"]:
        """See `HeadGroup`."""
        self.heads[0].eval()
        logits: Tensor = self._for_each(lambda head: head(bags).logits)
        return logits

    def clip(self, max_norm: float) -> None:
        """See `HeadGroup`."""
        grads = list(self.gradients.values())
        norms = [grad.flatten(1).norm(dim=1) for grad in grads]
        total = torch.stack(norms).norm(dim=0)
        factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(factor.view(-1, *[1] * (grad.dim() - 1)))

    def _for_each(self, function: Callable[[Callable[[Bags], Any]], Any]) -> Any:
        """Results of a function of one head for all heads, stacked."""
        # Its code is run with the parameters of each.
        module = self.heads[0]

        def of_head(parameters: Mapping[str, Tensor], buffers: Weights, index: Tensor) -> Any:
            def head(bags: Bags) -> Any:
                # Bags are a tuple, which would be taken for a list of arguments.
                return functional_call(module, {**parameters, **buffers}, (bags,))

            with self._functions.of(index):
                return function(head)

        # A random function that the draws do not know is an error, not the same numbers
        # for all heads.
        with reference_alone():
            return vmap(of_head, randomness="error")(self._parameters, self._buffers, self._indices)

    def _link(self, tensor_of: Callable[[Tensor, int], Tensor]) -> None:
        for i, head in enumerate(self.heads):
            for name, parameter in head.named_parameters():
                parameter.data = tensor_of(self._parameters[name], i)
            for name in dict(head.named_buffers()):
                owner, _, leaf = name.rpartition(".")
                head.get_submodule(owner)._buffers[leaf] = tensor_of(self._buffers[name], i)


def _stacked(tensors: Sequence[Weights]) -> Weights:
    return {
        name: torch.stack([of_head[name].detach() for of_head in tensors]) for name in tensors[0]
    }
