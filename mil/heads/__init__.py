"""MIL heads, one file each, found by file name: bags in, one `HeadOutput` out.

A head is its `Config` and its `Head(config, dim, classes)`. What a few of them need
besides is in the protocols below; a head takes part in one by having its methods. A
head that compares classes within says `for_classes = True`, and is trained for no other
task. Other packages add heads by entry points, see docs/own-head.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mil.bags import Bags, Graph, HeadOutput
from mil.config import Section, check_head, checked, head_names
from mil.config.recipes import package_of
from mil.errors import ConfigError, MilError


@runtime_checkable
class TwoStage(Protocol):
    """A head that another head is trained for beforehand, on the same bags, with cross-entropy alone."""

    def first_stage(self) -> nn.Module:
        """The head to train first."""

    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Take from the trained first head and the training bags what this one needs; called once."""


@runtime_checkable
class FollowsSteps(Protocol):
    """A head with something to do after each step of the optimiser, such as a teacher that follows its student.

    What it counts or collects is a buffer (`persistent=False` if the trained head does
    not need it): a training that was cut off goes on with parameters and buffers, and
    with nothing else of a head.
    """

    def after_step(self) -> None:
        """The parameters have just changed."""


@runtime_checkable
class UsesGraph(Protocol):
    """A head over a neighbour graph of a bag's tiles."""

    def see_training(self, train: Iterable[Bags]) -> None:
        """Take what graphs need of the training bags, as their mean; called once, before any graph is made."""

    def build_graph(
        self, features: Float[Tensor, "tiles dim"], coords: Int[Tensor, "tiles 2"] | None
    ) -> Graph | None:
        """The graph of one bag, to be kept for the whole training; None: one is drawn anew at every step."""


@runtime_checkable
class SelectsTiles(Protocol):
    """A head that answers from some of a bag's tiles, and can be asked what it would from others."""

    def answers(
        self, bags: Bags, selections: Sequence[Bool[Tensor, " tiles"]]
    ) -> Float[Tensor, "selections bags classes"]:
        """Logits from each selection; it holds at least one tile of each bag."""


@runtime_checkable
class Part(Protocol):
    """What a head keeps of some tiles of a bag: its size does not depend on how many they are."""

    def merge(self, other: Any) -> Any:
        """What it would keep of both together, in any order."""


@runtime_checkable
class Streams(Protocol):
    """A head whose answer, outside training, can be put together from parts of a bag as they come.

    Each tile is seen by itself, and what is kept of the tiles seen so far is merged:
    the result is that of the whole bag to rounding, however it is cut. Heads whose
    tiles look at one another, or that rank them, are not of this kind.
    """

    def part(
        self, features: Float[Tensor, "tiles dim"]
    ) -> tuple[Part, Float[Tensor, "tiles branches"]]:
        """What is kept of some tiles, and their scores."""

    def conclude(self, part: Part, scores: Float[Tensor, "tiles branches"]) -> HeadOutput:
        """The output for one bag: what was kept of all its tiles, with the scores of these (or of none)."""


def head_module(name: str) -> Any:
    """The module of a head, with its `Config` and its `Head`.

    Raises:
        ConfigError: there is no such head, or the package that plugs it in is broken.
    """
    return _module(name, check_head(name))


def _module(name: str, entry: EntryPoint | None) -> Any:
    if entry is None:
        return import_module(f"mil.heads.{name}")
    with blamed(entry):
        module = entry.load()
    for part, base, kind in (
        ("Config", Section, "mil.config.Section"),
        ("Head", nn.Module, "torch.nn.Module"),
    ):
        found = getattr(module, part, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ConfigError(
                f"head {name} of the package {package_of(entry)}: {entry.value} has no class "
                f"{part} that is a {kind}"
            )
    return module


def build_head(name: str, options: dict[str, Any], *, dim: int, classes: int) -> nn.Module:
    """Build a head.

    Args:
        name: a file of this folder, or a head that another package plugs in.
        options: what the head's `Config` allows.
        dim: length of a tile's feature vector.
        classes: number of classes.

    Raises:
        ConfigError: there is no such head, it does not know an option, or its package
            is broken.
    """
    entry = check_head(name)
    module = _module(name, entry)
    config = checked(module.Config, options, f"head {name}: options")
    with blamed(entry):
        try:
            head: nn.Module = module.Head(config, dim, classes)
        except RuntimeError as error:  # so torch says that there is no memory
            raise ConfigError(
                f"head {name}: too large for this machine: {str(error).splitlines()[0]}"
            ) from None
        return head


@contextmanager
def blamed(entry: EntryPoint | None) -> Iterator[None]:
    """Whatever another package's code raises becomes one line that names the package."""
    try:
        yield
    except MilError:
        raise
    except Exception as error:
        if entry is None:
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"head {entry.name} of the package {package_of(entry)} does not work: {what}"
        ) from error


__all__ = [
    "FollowsSteps",
    "Part",
    "SelectsTiles",
    "Streams",
    "TwoStage",
    "UsesGraph",
    "blamed",
    "build_head",
    "head_module",
    "head_names",
]
