"""Defaults that several tasks share: of all tasks, of those with classes, of those with numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from mil.config import DatasetConfig, Section
from mil.errors import ConfigError
from mil.statistics import resampled
from mil.statistics.bootstrap import RESAMPLES, members, paired_difference
from mil.statistics.bootstrap import resampled as on_resamples
from mil.statistics.divergence import kl_of_one
from mil.statistics.metric import CalibrationNote, MetricsOfSet, PowerNote
from mil.statistics.text import title
from mil.statistics.threshold import TINY
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
from mil.text import escaped, look, number_in

PAIRED_BOOTSTRAP = "paired bootstrap of patients"
# Probabilities that round to 0 or 1 have no finite log-odds.
SMALLEST_PROBABILITY = 1e-12
QUARTERS = 4  # strata of a number: quarters of the slides by its size


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


class OfClasses(TaskDefaults):
    """Base of the tasks with classes: one logit and one probability for each class."""

    classes: list[str] = Field(min_length=1)
    positive: str
    # Weight of each class in the loss; None: all classes weigh the same.
    weights: Sequence[Any] | None = None

    @model_validator(mode="after")
    def _classes_fit(self) -> "OfClasses":
        # Checked here too, and not only in the dataset's yaml: a recipe.json may come
        # from elsewhere.
        if self.positive not in self.classes:
            raise ValueError(f"positive is {self.positive!r}, which is none of the classes")
        if self.weights is not None and len(self.weights) != len(self.classes):
            raise ValueError(f"{len(self.weights)} weights for {len(self.classes)} classes")
        return self

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse classes that a dataset of this task cannot have.

        Raises:
            ValueError: There are none.
        """
        if not classes:
            raise ValueError("classes are needed: the labels, in the order of the head's outputs")

    @property
    def outputs(self) -> int:
        """One logit for each class."""
        return len(self.classes)

    @property
    def columns(self) -> list[str]:
        """One probability for each class."""
        return [f"p_{name}" for name in self.classes]

    @property
    def column_of_interest(self) -> str:
        """Probability of the positive class."""
        return f"p_{self.positive}"

    @property
    def attended(self) -> int | None:
        """Logit of the positive class."""
        return self.classes.index(self.positive)

    def divergence(self, before: Predictions, after: Predictions) -> Float[np.ndarray, " n"] | None:
        """Of classes that exclude one another."""
        return kl_of_one(before, after)

    @property
    def smallest_batch(self) -> int:
        """One bag: classes are not compared across bags."""
        return 1

    @property
    def evidence_unit(self) -> str:
        """Log-odds."""
        return "log-odds"

    def evidence(
        self, logits: Float[np.ndarray, "n outputs"], column: str
    ) -> Float[np.ndarray, " n"]:
        """Log-odds of a class."""
        probability = super().evidence(logits, column)
        bounded = probability.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        return np.log(bounded) - np.log1p(-bounded)

    def checked_label(self, label: str) -> str:
        """One of the classes."""
        name = class_named(label, self.classes)
        if name is None:
            raise ValueError(not_among(self.classes, label))
        return name

    def target(self, label: str) -> np.ndarray:
        """Number of the class, from 0."""
        return np.array(self.classes.index(label))

    def is_positive(self, label: str) -> bool:
        """Whether the label is the class of interest."""
        return label == self.positive

    def attends_to_annotations(self, label: str) -> bool:
        """Annotations outline the class of interest."""
        return self.is_positive(label)

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Strata are the classes."""
        return list(labels)

    def content(self, label: str) -> set[str]:
        """The class."""
        return {label}

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """The most probable class."""
        return self.classes[int(predictions.argmax())]

    @property
    def error_meaning(self) -> str:
        """Of probabilities."""
        return "probability of the predicted class less that of the label"

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """Largest probability of another class less that of the label."""
        if label not in self.classes:
            return None
        number = self.classes.index(label)
        others = np.delete(predictions, number)
        if not len(others):
            return None
        error = float(others.max() - predictions[number])
        # Of classes that tie the first is predicted, and the others are wrong.
        return error or (0.0 if predictions.argmax() == number else TINY)


class OfNumbers(TaskDefaults):
    """Base of the tasks without classes: one logit and one prediction."""

    column: ClassVar[str]  # name of the prediction in predictions.csv

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse classes.

        Raises:
            ValueError: There are some.
        """
        if classes:
            raise ValueError("classes must be empty")

    @property
    def classes(self) -> list[str]:
        """No classes."""
        return []

    @property
    def positive(self) -> str:
        """No class of interest."""
        return ""

    @property
    def outputs(self) -> int:
        """One logit."""
        return 1

    @property
    def columns(self) -> list[str]:
        """The only prediction."""
        return [self.column]

    @property
    def column_of_interest(self) -> str:
        """The only prediction."""
        return self.column

    @property
    def attended(self) -> int | None:
        """The only logit."""
        return 0

    @property
    def smallest_batch(self) -> int:
        """One bag."""
        return 1

    def is_positive(self, label: str) -> bool:
        """Numbers have no class of interest."""
        return False

    def attends_to_annotations(self, label: str) -> bool:
        """Annotations outline what the number is about, whatever its size."""
        return True

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """Numbers have no classes."""
        return ""


def not_among(classes: Sequence[str], label: str) -> str:
    """Message about a label that is none of the classes."""
    alike = next((name for name in classes if look(name) == look(label)), None)
    hint = "" if alike is None else f"; {escaped(label)} only looks like {escaped(alike)}"
    return f"the dataset's classes are: {', '.join(classes)}{hint}"


def class_named(label: str, classes: Sequence[str]) -> str | None:
    """The class of a label: the same text, or the same number (1.0 is the class 1)."""
    if label in classes:
        return label
    number = number_in(label)
    if number is None:
        return None
    return next((name for name in classes if number_in(name) == number), None)


def number_of(label: str) -> float:
    """Label that is a number, with a point or a comma before decimals.

    Raises:
        ValueError: It is none, or not a finite one.
    """
    number = number_in(label)
    if number is None or not math.isfinite(number):
        thousands = " (with a comma, 1,234 could be a thousand)" if "," in label else ""
        raise ValueError(f"a number is needed, such as 27.5{thousands}")
    return number


def quantile_parts(values: Sequence[float], parts: int) -> list[str]:
    """Part of each value when the range is cut into parts with equally many values.

    Equal values are in one part.
    """
    if not values:
        return []
    # Left: a value at an edge goes down, so that equal values stay together.
    edges = np.quantile(values, np.arange(1, parts) / parts)
    return [str(part) for part in np.searchsorted(edges, values, side="left")]


def balanced_weights(classes: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Weights of classes in the loss, by which each class counts the same.

    slides / (classes that occur * slides of the class), so that the mean over slides
    is 1; 1 for a class without slides. scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[name]) if counts[name] else 1.0 for name in classes]


def refuse_balance(dataset: DatasetConfig, balanced: bool) -> None:
    """Refuse to balance classes in a task without classes.

    Raises:
        ConfigError: `balanced` is true.
    """
    if balanced:
        raise ConfigError(
            f"train.class_weights: balanced needs classes, which the task {dataset.task} does "
            "not have"
        )


def log_sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Logarithm of the sigmoid; finite for logits of any size."""
    # log(1 / (1 + exp(-x))) would overflow for large negative logits.
    return -np.logaddexp(0, -logits)
