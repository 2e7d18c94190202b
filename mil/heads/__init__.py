"""MIL heads, one file each, found by file name: bags in, one `HeadOutput` out.

A head is its `Config` and its `Head(config, dim, classes)`. Some heads need more: the
protocols below, which a head follows by having their methods. A head whose prediction
compares the classes sets `for_classes = True`, and is trained for classification alone.
Other packages add heads by entry points, see docs/how-to/own-head.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mil.bags import Bags, Graph, HeadOutput
from mil.config import Section, check_head, checked, head_names
from mil.config.recipes import package_of
from mil.errors import ConfigError, MilError, brief
from mil.heads._ablation import Ablated
from mil.heads._at_once import BagLoss, Division, FitProblem
from mil.heads._removals import KEPT_BYTES, BothEnds, MeanRemovals, Removals, Remover
from mil.heads._shards import Shards
from mil.heads._stream import PoolsTiles


@runtime_checkable
class TwoStage(Protocol):
    """Head that follows a first stage: another head, trained on the same bags.

    The first stage is trained with cross-entropy alone.
    """

    def first_stage(self) -> nn.Module:
        """The head to train first."""

    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Initialise this head from the trained first one and the training bags; called once."""


@runtime_checkable
class FollowsSteps(Protocol):
    """Head with work after each step of the optimiser, such as a teacher's update.

    Its state is in buffers (`persistent=False` if the trained head does not need them):
    an interrupted training resumes with parameters and buffers, and with nothing else
    of a head.
    """

    def after_step(self) -> None:
        """Update the head; the optimiser has just changed the parameters."""


# The loss term that heads which are fitted at once are fitted to: that of the task.
TERM_AT_ONCE = "cross_entropy"


@runtime_checkable
class FitsAtOnce(Protocol):
    """Head that is fitted to a row of each training bag, not by steps of an optimiser.

    A head that is of two stages too has its row from the first one.
    """

    def rows(self, bags: Bags) -> Float[Tensor, "bags width"]:
        """Row of each bag, which does not depend on what is fitted."""

    def fit_rows(self, rows: Float[Tensor, "bags width"], problem: FitProblem) -> str:
        """Fit the head to rows of the training bags, float64 on the CPU.

        Returns:
            A line about what was chosen.
        """


@runtime_checkable
class UsesGraph(Protocol):
    """Head over a neighbour graph of a bag's tiles.

    A graph depends on the tiles, the options and the buffers that `see_training` fills,
    not on parameters: restarts of a training share the graphs of the first one.
    """

    def see_training(self, train: Iterable[Bags]) -> None:
        """Compute what graphs need of the training bags, such as their mean.

        Called once, before any graph is built.
        """

    def build_graph(
        self, features: Float[Tensor, "tiles dim"], coords: Int[Tensor, "tiles 2"] | None
    ) -> Graph | None:
        """Graph of one bag, for the whole training; None: `forward` draws one at every step."""


@runtime_checkable
class SelectsTiles(Protocol):
    """Head that predicts from a subset of tiles and can be re-evaluated on any other subset."""

    def answers(
        self, bags: Bags, selections: Sequence[Bool[Tensor, " tiles"]]
    ) -> Float[Tensor, "selections bags classes"]:
        """Logits for each selection of tiles, which has at least one tile of each bag."""


@runtime_checkable
class Part(Protocol):
    """Summary of some tiles of a bag, of a size that does not depend on their number."""

    def merge(self, other: Any) -> Any:
        """Summary of the tiles of both, in any order."""


@runtime_checkable
class Streams(Protocol):
    """Head that can predict, outside training, from parts of a bag as they arrive.

    Each tile is processed by itself, and summaries of parts are merged: the result is
    that of the whole bag to rounding, however it is split. Heads whose tiles attend to
    one another, or that rank tiles, are not of this kind.
    """

    def part(
        self, features: Float[Tensor, "tiles dim"]
    ) -> tuple[Part, Float[Tensor, "tiles branches"]]:
        """Summary of some tiles, and their scores."""

    def conclude(self, part: Part, scores: Float[Tensor, "tiles branches"]) -> HeadOutput:
        """Output for one bag, from the merged summary of all its tiles.

        Args:
            part: the merged summary.
            scores: scores of all tiles, or of none, if the output needs no scores.
        """


@runtime_checkable
class InShards(Protocol):
    """Head whose bags may be split over processes, see `mil.api.shards`."""

    def forward_shard(self, bags: Bags, shards: Shards) -> HeadOutput:
        """Output for whole bags, from this process's tiles of each.

        Args:
            bags: This process's tiles; a bag may have none.
            shards: The processes that hold the others.

        Raises:
            ConfigError: With these options, or in training, it needs whole bags.
        """


@runtime_checkable
class RemovesTiles(Protocol):
    """Head that computes exactly, in one pass, its logits without any of a bag's tiles.

    Heads that pool tiles by attention follow it by `mil.heads._stream.PoolsTiles`.
    """

    def remover(self, room: int = KEPT_BYTES) -> Remover:
        """Function of one bag: its logits without some tiles, by the weights of now.

        Args:
            room: Bytes of rows of tiles that may be kept in memory.
        """


@runtime_checkable
class MixesTiles(Protocol):
    """Head with layers in which the tiles of a bag exchange information before it pools.

    Its scores are of mixed tiles, which carry features of others.
    """

    def rollout(self, bags: Bags) -> Float[Tensor, " tiles"] | None:
        """Attention to the tiles before they were mixed, which sums to 1 over each bag.

        None: the head has no such layer.
        """


@runtime_checkable
class AblatesBranches(Protocol):
    """Head of several branches, or attention heads, of which each can be left out."""

    def ablated(self, bags: Bags) -> Ablated | None:
        """Logits without each branch: the mean of the others, or its part of the row set to 0.

        None: the head has a single branch.
        """


@runtime_checkable
class HoldsChoices(Protocol):
    """Head that ranks or selects tiles, and whose logits jump where the choice changes."""

    def logits_held(
        self, bags: Bags
    ) -> Callable[[Float[Tensor, "tiles dim"]], Float[Tensor, "bags classes"]]:
        """Logits as a function of the features, all choices as they are for these bags."""


def head_module(name: str) -> Any:
    """Module of a head, with its `Config` and its `Head`.

    Raises:
        ConfigError: no head has that name, or the package that provides it is broken.
    """
    return _module(name, check_head(name))


def _module(name: str, entry: EntryPoint | None) -> Any:
    # A head of `mil` itself; its errors are ours, and keep their traceback.
    if entry is None:
        return import_module(f"mil.heads.{name}")
    with blamed(entry):
        module = entry.load()
    required = (
        ("Config", Section, "mil.config.Section"),
        ("Head", nn.Module, "torch.nn.Module"),
    )
    for class_name, base, base_name in required:
        value = getattr(module, class_name, None)
        if not (isinstance(value, type) and issubclass(value, base)):
            raise ConfigError(
                f"head {name} of the package {package_of(entry)}: {entry.value} has no class "
                f"{class_name} that is a {base_name}"
            )
    return module


def build_head(
    name: str, options: Mapping[str, Any] | None = None, *, dim: int, classes: int
) -> nn.Module:
    """Build a head.

    Args:
        name: name of a file of this folder, or of a head that another package provides.
        options: options of the head's `Config`; the others have their defaults.
        dim: length of a tile's feature vector.
        classes: number of classes.

    Raises:
        ConfigError: no head has that name, an option is unknown or out of range, `dim` or
            `classes` is no whole number above 0, or the package that provides the head is
            broken.
    """
    entry = check_head(name)
    for argument, value in (("dim", dim), ("classes", classes)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"head {name}: {argument}: a whole number above 0 is needed, not {value!r}"
            )
    module = _module(name, entry)
    config = checked(module.Config, options or {}, f"head {name}: options")
    with blamed(entry):
        try:
            head: nn.Module = module.Head(config, dim, classes)
        except ConfigError as error:
            # Parts that several heads share do not know which head they are of.
            message = str(error)
            raise ConfigError(
                message if message.startswith("head ") else f"head {name}: {message}"
            ) from None
        except RuntimeError as error:
            # Torch's error for memory that cannot be allocated.
            message = str(error).splitlines()[0]
            raise ConfigError(f"head {name}: too large for this machine: {message}") from None
        return head


@contextmanager
def blamed(entry: EntryPoint | None) -> Iterator[None]:
    """Turn any error of another package's code into one line that names the package."""
    try:
        yield
    except MilError:
        raise
    except Exception as error:
        if entry is None:
            raise
        message = brief(f"{type(error).__name__}: {error}")
        raise ConfigError(
            f"head {entry.name} of the package {package_of(entry)} does not work: {message}"
        ) from error


__all__ = [
    "KEPT_BYTES",
    "TERM_AT_ONCE",
    "Ablated",
    "AblatesBranches",
    "BagLoss",
    "BothEnds",
    "Division",
    "FitProblem",
    "FitsAtOnce",
    "FollowsSteps",
    "HoldsChoices",
    "InShards",
    "MeanRemovals",
    "MixesTiles",
    "Part",
    "PoolsTiles",
    "Removals",
    "Remover",
    "RemovesTiles",
    "SelectsTiles",
    "Shards",
    "Streams",
    "TwoStage",
    "UsesGraph",
    "blamed",
    "build_head",
    "head_module",
    "head_names",
]
