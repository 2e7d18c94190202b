"""Defaults of all tasks: metrics, intervals and tests by resampling, and no calibration."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mil.config import DatasetConfig, Section
from mil.statistics import resampled
from mil.statistics.bootstrap import RESAMPLES, members, paired_difference
from mil.statistics.bootstrap import resampled as on_resamples
from mil.statistics.metric import CalibrationNote, MetricsOfSet, PowerNote
from mil.statistics.text import title
from mil.tasks.base import (
    Draws,
    EvaluationSet,
    Headline,
    PairedTest,
    Predictions,
    Targets,
    Task,
    Weights,
)

PAIRED_BOOTSTRAP = "paired bootstrap of patients"


class TaskDefaults(Section):
    """Metrics, intervals and tests by resampling, and no calibration."""

    kind: str

    # Properties of the class, not fields: recipe.json keeps what a head was fitted
    # with, and nothing that this code decides.
    # Range of each metric that is not a share; see `mil.statistics.resampled`.
    scales: ClassVar[Mapping[str, resampled.Scale]] = {}
    headlines: ClassVar[Sequence[Headline]]
    subgroup_metrics: ClassVar[Sequence[str]]
    main_metric: ClassVar[str]
    smaller_is_better: ClassVar[bool] = False
    largest_difference: ClassVar[float | None] = None
    has_roc: ClassVar[bool] = False
    has_threshold: ClassVar[bool] = False
    one_of_classes: ClassVar[bool] = False
    every_label: ClassVar[bool] = False
    label_columns: ClassVar[tuple[str, ...]] = ()
    comparison_note: ClassVar[str] = ""
    interval_note: ClassVar[str] = "95 % intervals are from 1000 resamples of patients."

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> Task:
        """Task of a dataset; see `mil.tasks.fit_task`."""
        raise NotImplementedError

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> Task:
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        raise NotImplementedError

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse classes that a dataset of this task cannot have.

        Raises:
            ValueError: The classes do not fit the task.
        """

    def joined_label(self, *cells: str) -> str:
        """Label made of the cells of `label_columns`, which are none."""
        raise ValueError("the label stands in one column")

    @property
    def columns(self) -> list[str]:
        """Names of the predictions."""
        raise NotImplementedError

    @property
    def column_of_interest(self) -> str:
        """Column that heatmaps and report show."""
        raise NotImplementedError

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Predictions in the order of `columns`."""
        raise NotImplementedError

    @property
    def error_meaning(self) -> str:
        """Empty: a single prediction is neither right nor wrong."""
        return ""

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """None: a single prediction is neither right nor wrong."""
        return None

    @property
    def evidence_unit(self) -> str:
        """Unit of the prediction."""
        return title(self.column_of_interest)

    def evidence(
        self, logits: Float[np.ndarray, "n outputs"], column: str
    ) -> Float[np.ndarray, " n"]:
        """The prediction itself."""
        return self.predictions(logits)[:, self.columns.index(column)]

    def divergence(self, before: Predictions, after: Predictions) -> Float[np.ndarray, " n"] | None:
        """Numbers have none."""
        return None

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """Metrics of samples in which each slide occurs `weights` times."""
        raise NotImplementedError

    def validation_metrics(
        self, targets: Targets, predictions: Predictions
    ) -> dict[str, float | None]:
        """Metrics without intervals."""
        return resampled.metrics_of(
            lambda weights: self.weighted_metrics(targets, predictions, weights), len(targets)
        )

    def metrics(self, test: EvaluationSet) -> dict[str, float | None]:
        """Metrics without intervals, the same as after each epoch."""
        return self.validation_metrics(test.targets, test.predictions)

    def metrics_with_intervals(
        self, test: EvaluationSet, *, seed: int = 0, resamples: int = RESAMPLES
    ) -> MetricsOfSet:
        """Metrics with 95 % intervals from resampled patients."""
        return resampled.with_intervals(
            lambda weights: self.weighted_metrics(test.targets, test.predictions, weights),
            test.patients,
            self.scales,
            seed=seed,
            resamples=resamples,
        )

    def power(self, test: EvaluationSet) -> PowerNote | None:
        """Power is known for the AUROC of two classes only."""
        return None

    def calibration(self, before: EvaluationSet, after: EvaluationSet) -> CalibrationNote | None:
        """Only the softmax of classes is calibrated."""
        return None

    def comparison_metrics(self, available: Sequence[str]) -> list[str]:
        """All metrics."""
        return list(available)

    def main_metric_of(self, targets: Targets, predictions: Predictions, weights: Weights) -> Draws:
        """Main metric of samples in which each slide occurs `weights` times."""
        return self.weighted_metrics(targets, predictions, weights)[self.main_metric]

    def paired_test(
        self,
        targets: Targets,
        predictions: Sequence[Predictions],
        patients: Sequence[str],
        pairs: Sequence[tuple[int, int]],
    ) -> PairedTest:
        """Paired bootstrap: all heads are measured on the same resamples of patients."""
        member = members(patients)
        count = int(member.max()) + 1
        # One patient drawn with replacement is always the same sample.
        if count < 2:
            raise ValueError("there is one patient")

        # Keys are text because `resampled` names its metrics.
        def measured(weights: Weights) -> dict[str, Draws]:
            return {
                str(head): self.main_metric_of(targets, predicted, weights)
                for head, predicted in enumerate(predictions)
            }

        whole = measured(np.ones((1, len(member))))
        # The same resamples for all heads: what they share cancels in the difference.
        drawn = on_resamples(measured, member)
        if not all(np.isfinite(value[0]) for value in whole.values()):
            raise ValueError(f"these slides have no {title(self.main_metric)}")
        differences = [
            paired_difference(
                float(whole[str(one)][0] - whole[str(other)][0]),
                drawn[str(one)] - drawn[str(other)],
                count,
            )
            for one, other in pairs
        ]
        return PairedTest(PAIRED_BOOTSTRAP, differences)
