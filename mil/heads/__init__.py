"""MIL heads, one file each, found by file name: bags in, one `HeadOutput` out.

A head is its `Config` and its `Head(config, dim, classes)`. What a few of them need besides is in the protocols below;
a head takes part in one by having its methods.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from mil.config import checked, head_names
from mil.errors import ConfigError, unknown_name
from mil.types import Bags, Graph


@runtime_checkable
class TwoStage(Protocol):
    """A head that another head is trained for beforehand, on the same bags, with cross-entropy alone."""

    def first_stage(self) -> nn.Module:
        """The head to train first."""

    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Take from the trained first head and the training bags what this one needs; called once."""


@runtime_checkable
class FollowsSteps(Protocol):
    """A head with something to do after each step of the optimiser, such as a teacher that follows its student."""

    def after_step(self) -> None:
        """The parameters have just changed."""


@runtime_checkable
class UsesGraph(Protocol):
    """A head over a neighbour graph of a bag's tiles."""

    def see_training(self, train: Iterable[Bags]) -> None:
        """Take what graphs need of the training bags, as their mean; called once, before any graph is made."""

    def build_graph(self, features: Float[Tensor, "tiles dim"], coords: Int[Tensor, "tiles 2"] | None) -> Graph | None:
        """The graph of one bag, to be kept for the whole training; None: one is drawn anew at every step."""


def build_head(name: str, options: dict[str, Any], *, dim: int, classes: int) -> nn.Module:
    """Build a head.

    Args:
        name: a file of this folder.
        options: what the head's `Config` allows.
        dim: length of a tile's feature vector.
        classes: number of classes.

    Raises:
        ConfigError: there is no such head, or it does not know an option.
    """
    if name not in head_names():
        raise ConfigError(unknown_name("head", name, head_names()))
    module = import_module(f"mil.heads.{name}")
    head: nn.Module = module.Head(checked(module.Config, options, f"head {name}: options"), dim, classes)
    return head
