"""Classification: a slide has exactly one of two or more classes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from mil.config import DatasetConfig
from mil.statistics import classified
from mil.statistics.calibration import brier, ece, reliability, softmax
from mil.statistics.confusion import confusion
from mil.statistics.delong import delong, paired
from mil.statistics.discrimination import one_vs_rest, weighted_auroc
from mil.statistics.metric import (
    CalibrationErrors,
    CalibrationNote,
    Confusion,
    MetricsOfSet,
    PowerNote,
)
from mil.statistics.power import power_note
from mil.statistics.threshold import DEFAULT_THRESHOLD, TINY
from mil.tasks._labels import balanced_weights
from mil.tasks._of_classes import OfClasses
from mil.tasks.base import Draws, EvaluationSet, Headline, PairedTest, Predictions, Targets, Weights

DELONG = "DeLong's paired test"
OBUCHOWSKI = "DeLong's paired test with the slides of a patient summed (Obuchowski)"
COMPARED = ("balanced_accuracy", "f1_macro", "sensitivity", "specificity", "brier", "ece")
TWO_CLASSES_ONLY = ("sensitivity", "specificity")


class Classification(OfClasses):
    """One class of two or more; predictions are the softmax of the logits.

    Statistics of two classes are about the positive one, which they get as class 1
    whatever its place among the classes.
    """

    kind: Literal["classification"] = "classification"
    weights: list[float] | None = None

    one_of_classes: ClassVar[bool] = True
    # A part of a division without one of the classes has no AUROC.
    every_label: ClassVar[bool] = True
    has_roc: ClassVar[bool] = True
    largest_difference: ClassVar[float | None] = 1.0
    headlines: ClassVar[Sequence[Headline]] = (
        Headline("AUROC", ("auroc", "auroc_macro")),
        Headline("macro-F1", ("f1_macro",)),
        Headline("accuracy", ("accuracy",)),
    )
    subgroup_metrics: ClassVar[Sequence[str]] = (
        "auroc",
        "auroc_macro",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
    )
    interval_note: ClassVar[str] = (
        "95 % intervals: AUROC by DeLong, accuracy by Wilson, F1 from 1000 resamples of "
        "patients. With more than two classes, AUROC is the macro mean, each class against "
        "the rest."
    )

    @classmethod
    def fitted(
        cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool
    ) -> "Classification":
        """Task of a dataset; see `mil.tasks.fit_task`."""
        weights = balanced_weights(dataset.classes, labels) if balanced else None
        return cls(classes=dataset.classes, positive=dataset.positive_class, weights=weights)

    @classmethod
    def unfitted(cls, classes: Sequence[str], positive: str) -> "Classification":
        """Task without training labels; see `mil.tasks.unfitted_task`."""
        return cls(classes=list(classes), positive=positive)

    def predictions(self, logits: Float[np.ndarray, "n outputs"]) -> Predictions:
        """Probabilities of the classes, which sum to 1."""
        return softmax(logits)

    def evidence(
        self, logits: Float[np.ndarray, "n outputs"], column: str
    ) -> Float[np.ndarray, " n"]:
        """Log-odds of a class: its logit less the log-sum-exp of the others."""
        number = self.columns.index(column)
        others = np.delete(logits, number, axis=1)
        return logits[:, number] - np.logaddexp.reduce(others, axis=1)

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """The most probable class; of two, the positive one from the threshold on."""
        # A threshold is about the positive class of two; with more there is no "rest"
        # to fall to.
        if not self._two:
            return super().predicted_class(predictions, threshold)
        positive = self.classes.index(self.positive)
        thresholds = None if threshold is None else np.array([threshold])
        number = classified.predicted_classes(predictions[None], thresholds, positive)[0]
        return self.classes[number]

    @property
    def error_meaning(self) -> str:
        """Of two classes a distance from the threshold."""
        if not self._two:
            return super().error_meaning
        return "distance of the probability beyond the threshold, as a share of the way to 0 or 1"

    def prediction_error(
        self, label: str, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> float | None:
        """Of two classes the way beyond the threshold; of more see `OfClasses`."""
        if not self._two or label not in self.classes:
            return super().prediction_error(label, predictions, threshold)
        least = DEFAULT_THRESHOLD if threshold is None else threshold
        probability = float(predictions[self.classes.index(self.positive)])
        if probability >= least:
            beyond = (probability - least) / max(1 - least, TINY)
            # The threshold itself is positive, and a normal slide there is wrong.
            return -beyond if self.is_positive(label) else max(beyond, TINY)
        beyond = (least - probability) / least
        return beyond if self.is_positive(label) else -beyond

    @property
    def main_metric(self) -> str:  # type: ignore[override]
        """AUROC of the positive class of two; macro mean of more."""
        return "auroc" if self._two else "auroc_macro"

    @property
    def comparison_note(self) -> str:  # type: ignore[override]
        """How classes were predicted for each metric."""
        rule = "A slide is predicted to be of its most probable class."
        if self._two:
            rule = (
                f"A slide is predicted to be {self.positive} from the threshold of the validation "
                "slides up; balanced accuracy, F1, sensitivity and specificity follow this rule."
            )
        return (
            f"{rule} ECE has no interval; brackets show the range that perfectly calibrated "
            "probabilities would give on as many slides."
        )

    def comparison_metrics(self, available: Sequence[str]) -> list[str]:
        """Ranking, decisions and calibration; a selection that fits a page."""
        if self._two:
            return ["auroc", "auprc", *COMPARED]
        decided = [name for name in COMPARED if name not in TWO_CLASSES_ONLY]
        return ["auroc_macro", "auprc_macro", *decided]

    def weighted_metrics(
        self, targets: Targets, predictions: Predictions, weights: Weights
    ) -> Mapping[str, Draws]:
        """See `mil.statistics.classified.weighted`."""
        order = self._order
        return classified.weighted(np.argsort(order)[targets], predictions[:, order], weights)

    def validation_metrics(
        self, targets: Targets, predictions: Predictions
    ) -> dict[str, float | None]:
        """See `mil.statistics.classified.classification`."""
        return classified.classification(targets, predictions)

    def metrics(self, test: EvaluationSet) -> dict[str, float | None]:
        """See `mil.statistics.classified.plain`."""
        ordered = self._positive_second(test)
        return classified.plain(ordered.targets, ordered.predictions, self._thresholds(test))

    def metrics_with_intervals(self, test: EvaluationSet) -> MetricsOfSet:  # type: ignore[override]
        """Metrics with intervals, and the confusion matrix."""
        ordered = self._positive_second(test)
        thresholds = self._thresholds(test)
        predicted = classified.predicted_classes(ordered.predictions, thresholds)
        counts = confusion(ordered.targets, predicted, len(self.classes))
        names = [self.classes[number] for number in self._order]
        measured = classified.with_intervals(
            ordered.targets, ordered.predictions, test.patients, thresholds
        )
        return measured._replace(confusion=Confusion(classes=names, table=counts.tolist()))

    def power(self, test: EvaluationSet) -> PowerNote | None:
        """Smallest AUROC and difference of AUROCs that the slides could show."""
        # Hanley and McNeil's error is of two classes; none is known of a macro mean.
        if not self._two:
            return None
        ordered = self._positive_second(test)
        return power_note(ordered.targets, ordered.predictions[:, 1], test.patients)

    def calibration(self, before: EvaluationSet, after: EvaluationSet) -> CalibrationNote:
        """Brier score and calibration error before and after calibration."""
        ordered_after = self._positive_second(after)
        return CalibrationNote(
            before=_errors(self._positive_second(before)),
            after=_errors(ordered_after),
            reliability=reliability(ordered_after.targets, ordered_after.predictions),
        )

    def main_metric_of(self, targets: Targets, predictions: Predictions, weights: Weights) -> Draws:
        """Macro AUROC alone."""
        return one_vs_rest(weighted_auroc, targets, predictions, weights)

    def paired_test(
        self,
        targets: Targets,
        predictions: Sequence[Predictions],
        patients: Sequence[str],
        pairs: Sequence[tuple[int, int]],
    ) -> PairedTest:
        """DeLong's test of the AUROCs of two classes, else the bootstrap."""
        # DeLong's covariance is of one AUROC; a macro mean has none in closed form.
        if not self._two:
            return super().paired_test(targets, predictions, patients, pairs)
        positive = self.classes.index(self.positive)
        scores = np.stack([predicted[:, positive] for predicted in predictions])
        areas = delong((targets == positive).astype(int), scores, patients)
        differences = [paired(areas, *pair) for pair in pairs]
        return PairedTest(OBUCHOWSKI if areas.several else DELONG, differences)

    @property
    def has_threshold(self) -> bool:  # type: ignore[override]
        """Of two classes, that of the positive one."""
        return self._two

    @property
    def _two(self) -> bool:
        return len(self.classes) == 2

    @property
    def _order(self) -> list[int]:
        """Columns in the order that statistics take: of two the positive class second."""
        numbers = range(len(self.classes))
        if not self._two:
            return list(numbers)
        return sorted(numbers, key=lambda number: self.classes[number] == self.positive)

    def _positive_second(self, test: EvaluationSet) -> EvaluationSet:
        """Slides with classes in the order of `_order`.

        A dataset may name the positive class first, while statistics of two classes
        are of class 1.
        """
        # The inverse of the order turns old class numbers into new ones.
        number_in_order = np.argsort(self._order)
        return test._replace(
            targets=number_in_order[test.targets], predictions=test.predictions[:, self._order]
        )

    def _thresholds(self, test: EvaluationSet) -> Float[np.ndarray, " n"] | None:
        """Thresholds of two classes; more classes have none."""
        return test.thresholds if self._two else None


def _errors(test: EvaluationSet) -> CalibrationErrors:
    return CalibrationErrors(
        brier=brier(test.targets, test.predictions), ece=ece(test.targets, test.predictions)
    )


TASK = Classification
