"""The contract that every task keeps, and what passes between a task and its users."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from mil.statistics.delong import Difference
from mil.statistics.metric import CalibrationNote, MetricsOfSet, PowerNote

Targets = Shaped[np.ndarray, "n ..."]
Predictions = Float[np.ndarray, "n columns"]
Weights = Float[np.ndarray, "draws n"]
Draws = Float[np.ndarray, " draws"]


class EvaluationSet(NamedTuple):
    """Slides or patients with their targets and predictions."""

    targets: Targets
    predictions: Predictions
    patients: Sequence[str]  # patient of each slide
    # Probability from which the positive class of two is predicted, for each slide.
    thresholds: Float[np.ndarray, " n"]


class Headline(NamedTuple):
    """A column of the report's table of heads."""

    title: str
    metrics: tuple[str, ...]  # the first of these that a task has is shown


class PairedTest(NamedTuple):
    """Differences of pairs of heads in the main metric."""

    method: str
    differences: list[Difference]


# For `isinstance` where a record of a head is read, see `mil.tasks._read_task`.
@runtime_checkable
class Task(Protocol):
    """Labels to targets, logits to predictions, and both to metrics; without torch.

    One file of this package holds all of a task but its loss, which needs torch and is
    in `mil.losses.tasks`. Defaults are in `mil.tasks._defaults`,
    `_of_classes` and `_of_numbers`.
    """

    # The task and its head

    @property
    def kind(self) -> str:
        """Name of the task, as the yaml of a dataset has it, and of its file."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes in order; empty where the label is a number."""

    @property
    def positive(self) -> str:
        """Class of interest; empty where there are no classes."""

    @property
    def one_of_classes(self) -> bool:
        """Whether each slide has exactly one of several classes without an order.

        Softmax, calibration, and loss terms and heads that compare classes need this.
        """

    @property
    def outputs(self) -> int:
        """Number of logits that a head needs."""

    @property
    def attended(self) -> int | None:
        """Logit whose attention is drawn, of a head with attention for each logit.

        None: the mean over all logits.
        """

    @property
    def smallest_batch(self) -> int:
        """Smallest number of bags in a training step."""

    def model_dump(self, *, mode: str = "python") -> Mapping[str, object]:
        """Settings of the task, as recipe.json has them."""

    # Labels

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns of the slide table that may stand for `label`; empty: none."""

    def joined_label(self, *cells: str) -> str:
        """Label made of the cells of `label_columns`.

        Raises:
            ValueError: a cell is not what the column holds.
        """

    def checked_label(self, label: str) -> str:
        """Label in its canonical form.

        Args:
            label: Label as written in the slide table, without spaces around it.

        Raises:
            ValueError: It is no label of the task.
        """

    def target(self, label: str) -> Shaped[np.ndarray, "..."]:
        """Target of the loss and of the metrics: int64 for a class, else float64.

        Args:
            label: Label of a slide, as `checked_label` accepts it.
        """

    def is_positive(self, label: str) -> bool:
        """Whether a slide has the class of interest; never where labels are numbers."""

    def attends_to_annotations(self, label: str) -> bool:
        """Whether a head should attend to annotated regions of a slide with this label."""

    # Splits

    @property
    def every_label(self) -> bool:
        """Whether each part of a division needs patients with each label."""

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Stratum of each slide, kept in proportion over the parts of a division."""

    def content(self, label: str) -> set[str]:
        """Classes or event that a label has, for warnings about parts that lack one."""

    # Predictions

    @property
    def columns(self) -> Sequence[str]:
        """Names of the predictions, as in predictions.csv: `p_CLASS` for a probability."""

    @property
    def column_of_interest(self) -> str:
        """Column that heatmaps and report show."""

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Predictions in the order of `columns`, in the precision of the logits.

        `mil.losses.tasks.predictions` is the same with torch and is what heads use;
        the two differ by rounding.
        """

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """Predicted class of a slide, or all of several; empty where there are none.

        Args:
            predictions: Predictions of one slide, in the order of `columns`.
            threshold: Least probability of the positive class of two; None: 0.5.
        """

    @property
    def error_meaning(self) -> str:
        """What `prediction_error` measures, as a phrase; empty where it is not defined."""

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """How wrong the prediction of a slide is: above 0 wrong, larger: worse.

        Args:
            label: Label of the slide.
            predictions: Predictions, in the order of `columns`.
            threshold: Least probability of the positive class of two; None: 0.5.

        Returns:
            None where the prediction of a single slide is neither right nor wrong.
        """

    # Evidence of tiles

    @property
    def evidence_unit(self) -> str:
        """Unit of `evidence`, as colour bars and tables show it."""

    def evidence(
        self, logits: Float[np.ndarray, "n outputs"], column: str
    ) -> Float[np.ndarray, " n"]:
        """Uncalibrated logits on the scale on which tiles are compared.

        Args:
            logits: Logits of bags, or of single tiles.
            column: One of `columns`.

        Returns:
            For a class its log-odds against the others, else the prediction itself.
        """

    def divergence(self, before: Predictions, after: Predictions) -> Float[np.ndarray, " n"] | None:
        """Kullback-Leibler divergence of predictions from others, nats; None without classes.

        Args:
            before: Predictions of slides, in the order of `columns`.
            after: Others of the same slides.
        """

    # Metrics

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """Metrics of samples in which each slide occurs `weights` times.

        NaN where a sample does not allow a metric.
        """

    def validation_metrics(
        self, targets: Targets, predictions: Predictions
    ) -> dict[str, float | None]:
        """Metrics computed after each epoch of training; fast."""

    def metrics(self, test: EvaluationSet) -> dict[str, float | None]:
        """Metrics without intervals; None for what the slides do not allow."""

    def metrics_with_intervals(self, test: EvaluationSet) -> MetricsOfSet:
        """Metrics with 95 % intervals, in the order in which tables show them."""

    def power(self, test: EvaluationSet) -> PowerNote | None:
        """Smallest difference that the slides could show; None where not defined."""

    def calibration(self, before: EvaluationSet, after: EvaluationSet) -> CalibrationNote | None:
        """Errors before and after calibration; None where not defined."""

    # Report and comparison

    @property
    def headlines(self) -> Sequence[Headline]:
        """Columns of the report's table of heads, most important first."""

    @property
    def interval_note(self) -> str:
        """Sentence of the report that says how intervals were computed."""

    @property
    def subgroup_metrics(self) -> Sequence[str]:
        """Metrics that subgroups of slides get."""

    @property
    def has_threshold(self) -> bool:
        """Whether the prediction of interest decides the class, from a threshold up."""

    @property
    def has_roc(self) -> bool:
        """Whether the prediction of interest has a ROC curve."""

    @property
    def main_metric(self) -> str:
        """Metric by which heads are compared."""

    @property
    def smaller_is_better(self) -> bool:
        """Whether the better of two heads has the smaller main metric."""

    @property
    def largest_difference(self) -> float | None:
        """Largest possible difference in the main metric; None where there is none."""

    @property
    def comparison_note(self) -> str:
        """Sentence under a table of heads that explains its columns; empty: none."""

    def comparison_metrics(self, available: Sequence[str]) -> list[str]:
        """Columns of a table of heads, the main metric's first.

        Args:
            available: Names of the metrics of the first head.
        """

    def paired_test(
        self,
        targets: Targets,
        predictions: Sequence[Predictions],
        patients: Sequence[str],
        pairs: Sequence[tuple[int, int]],
    ) -> PairedTest:
        """Differences of pairs of heads on the same slides.

        Args:
            targets: Targets of the slides.
            predictions: Predictions of each head.
            patients: Patient of each slide.
            pairs: Numbers of the two heads of each pair.

        Raises:
            ValueError: The slides do not allow a test.
        """
