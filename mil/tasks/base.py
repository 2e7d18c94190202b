"""What every task offers."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Shaped
from torch import Tensor

from mil.config.labels import TaskName


@runtime_checkable
class Task(Protocol):
    """Labels to targets, logits and targets to a loss, logits to answers.

    The target of a slide is a tensor of the task's own shape; those of several slides
    are stacked.
    """

    @property
    def kind(self) -> TaskName:
        """Its name, as a dataset's yaml has it."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes in order; none where the label is a number."""

    @property
    def positive(self) -> str:
        """The class of interest; empty where there are no classes."""

    @property
    def outputs(self) -> int:
        """How many logits a head needs."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the answers, as the columns of predictions.csv: `p_CLASS` for a probability."""

    @property
    def of_interest(self) -> str:
        """The column that heatmaps and report speak of."""

    @property
    def attended(self) -> int | None:
        """The logit whose attention is drawn, of a head that attends for each logit apart; None: the mean of all."""

    @property
    def least_bags(self) -> int:
        """How many bags a step of training needs."""

    def target(self, label: str) -> Tensor:
        """What the loss is told of a slide."""

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Shaped[Tensor, "n ..."]
    ) -> Float[Tensor, " n"]:
        """Loss of each bag, with the weight of its class if classes have weights."""

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """What a head says, in the order of `columns`."""
