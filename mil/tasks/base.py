"""The contract that every task keeps."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from mil.config.labels import TaskName


@runtime_checkable
class Task(Protocol):
    """Labels to targets, and logits to predictions; without torch.

    The loss of a task, which needs torch, is in `mil.losses.tasks`.
    """

    @property
    def kind(self) -> TaskName:
        """Name of the task, as the yaml of a dataset has it."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes in order; empty where the label is a number."""

    @property
    def positive(self) -> str:
        """Class of interest; empty where there are no classes."""

    @property
    def outputs(self) -> int:
        """Number of logits that a head needs."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the predictions, as in predictions.csv: `p_CLASS` for a probability."""

    @property
    def of_interest(self) -> str:
        """Column that heatmaps and report show."""

    @property
    def attended(self) -> int | None:
        """Logit whose attention is drawn, of a head with attention for each logit.

        None: the mean over all logits.
        """

    @property
    def least_bags(self) -> int:
        """Smallest number of bags in a training step."""

    def target(self, label: str) -> Shaped[np.ndarray, "..."]:
        """Target of the loss and of the metrics: int64 for a class, else float64.

        Args:
            label: Label of a slide, as `checked_label` accepts it.
        """

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n columns"]:
        """Predictions in the order of `columns`, in the precision of the logits.

        `mil.losses.tasks.predictions` is the same with torch and is what heads use;
        the two differ by rounding.
        """
