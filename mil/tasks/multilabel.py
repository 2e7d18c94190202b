"""Multilabel: a slide has any number of classes, also none."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from mil.config import DatasetConfig
from mil.statistics.divergence import kl_of_each
from mil.statistics.multilabel import multilabel
from mil.statistics.threshold import TINY
from mil.tasks._labels import class_named, log_sigmoid, not_among
from mil.tasks._of_classes import OfClasses
from mil.tasks.base import Draws, Headline, Predictions, Targets, Weights

SEPARATOR = ";"  # between the classes of a slide that has several
MACRO = "macro"  # suffix of metrics over all classes, which no class may be called
THRESHOLD = 0.5  # probability from which a class is predicted


class Multilabel(OfClasses):
    """Any number of classes; predictions are sigmoids, which do not sum to 1."""

    kind: Literal["multilabel"] = "multilabel"
    # Weights in the loss of slides without each class, and of slides with it.
    weights: list[tuple[float, float]] | None = None

    has_roc: ClassVar[bool] = True
    main_metric: ClassVar[str] = "auroc_macro"
    largest_difference: ClassVar[float | None] = 1.0
    headlines: ClassVar[Sequence[Headline]] = (
        Headline("macro AUROC", ("auroc_macro",)),
        Headline("macro AUPRC", ("auprc_macro",)),
        Headline("macro-F1", ("f1_macro",)),
    )
    subgroup_metrics: ClassVar[Sequence[str]] = ("auroc_macro", "auprc_macro", "f1_macro")

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "Multilabel":
        """Task of a dataset; see `mil.tasks.fit_task`.

        Balanced: slides with a class and slides without it count the same.
        """
        classes_by_slide = [classes_of(label) for label in labels]
        weights = []
        for name in dataset.classes:
            positives = sum(name in classes for classes in classes_by_slide)
            weights.append(_balanced_pair(len(labels) - positives, positives))
        return cls(
            classes=dataset.classes,
            positive=dataset.positive_class,
            weights=weights if balanced else None,
        )

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> "Multilabel":
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        return cls(classes=list(classes), positive=positive)

    @classmethod
    def check_classes(cls, classes: Sequence[str]) -> None:
        """Refuse names that cannot be told apart in a label or a metric.

        Raises:
            ValueError: A name holds the separator or is `macro`.
        """
        super().check_classes(classes)
        if any(classes_of(name) != [name] for name in classes):
            raise ValueError(
                f"names of multilabel classes cannot be empty or contain {SEPARATOR!r}, which "
                "separates the labels of a slide"
            )
        if MACRO in classes:
            raise ValueError(
                f"a multilabel class cannot be named {MACRO!r}, the name of metrics averaged over "
                "classes"
            )

    def checked_label(self, label: str) -> str:
        """Classes of the slide in the dataset's order, each once."""
        # One spelling for each set, so that labels can be compared as text.
        written = classes_of(label)
        names = [class_named(name, self.classes) for name in written]
        if None in names:
            raise ValueError(not_among(self.classes, written[names.index(None)]))
        if len(set(names)) < len(names):
            raise ValueError("a class is named twice")
        return SEPARATOR.join(name for name in self.classes if name in names)

    def target(self, label: str) -> Float[np.ndarray, " classes"]:
        """1 for each class that the slide has, else 0."""
        names = classes_of(label)
        return np.array([float(name in names) for name in self.classes])

    def is_positive(self, label: str) -> bool:
        """Whether the class of interest is among the slide's."""
        return self.positive in classes_of(label)

    def strata(self, labels: Sequence[str]) -> list[str]:
        """Sets of classes, in whatever order they were written."""
        return [SEPARATOR.join(sorted(classes_of(label))) for label in labels]

    def content(self, label: str) -> set[str]:
        """The slide's classes."""
        return set(classes_of(label))

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Probability of each class."""
        return np.exp(log_sigmoid(logits))

    def divergence(self, before: Predictions, after: Predictions) -> Float[np.ndarray, " n"] | None:
        """Summed over the classes."""
        return kl_of_each(before, after)

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """All classes that are more probable than not."""
        present = [
            name
            for name, probability in zip(self.classes, predictions, strict=True)
            # Thresholds are fitted on validation slides for two classes only.
            if probability >= THRESHOLD
        ]
        return SEPARATOR.join(present)

    @property
    def error_meaning(self) -> str:
        """A distance from 0.5."""
        return "largest distance of a class's probability beyond 0.5"

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """Largest distance on the wrong side of 0.5, over the classes."""
        signs = 1 - 2 * self.target(label)
        beyond = signs * (predictions - THRESHOLD)
        # 0.5 itself is positive, and wrong where the slide does not have the class.
        beyond[(beyond == 0) & (signs > 0)] = TINY
        return float(beyond.max())

    def evidence(
        self, logits: Float[np.ndarray, "n outputs"], column: str
    ) -> Float[np.ndarray, " n"]:
        """Log-odds of a class: its logit."""
        return logits[:, self.columns.index(column)]

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """See `mil.statistics.multilabel`."""
        return multilabel(targets, predictions, self.classes, weights)


TASK = Multilabel


def classes_of(label: str) -> list[str]:
    """Classes of a slide, as its label writes them."""
    return [name.strip() for name in label.split(SEPARATOR) if name.strip()]


def _balanced_pair(negatives: int, positives: int) -> tuple[float, float]:
    """Weights by which negatives and positives count the same; 1 where either is missing."""
    if not negatives or not positives:
        return 1.0, 1.0
    slides = negatives + positives
    return slides / (2 * negatives), slides / (2 * positives)
