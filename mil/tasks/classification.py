"""Classification: a slide has exactly one of two or more classes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

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
from mil.tasks._shared import OfClasses, balanced_weights
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

    def predicted_class(
        self, predictions: Float[np.ndarray, " columns"], threshold: float | None
    ) -> str:
        """The most probable class; of two, the positive one from the threshold on."""
        if threshold is None or len(self.classes) != 2:
            return super().predicted_class(predictions, threshold)
        positive = self.classes.index(self.positive)
        return self.classes[positive if predictions[positive] >= threshold else 1 - positive]

    @property
    def main_metric(self) -> str:  # type: ignore[override]
        """AUROC of the positive class of two; macro mean of more."""
        return "auroc" if self._two else "auroc_macro"

    @property
    def comparison_note(self) -> str:  # type: ignore[override]
        """How classes were predicted for each metric."""
        at_threshold = "."
        if self._two:
            at_threshold = (
                "; sensitivity and specificity use the threshold chosen on validation slides."
            )
        return (
            f"Balanced accuracy and F1 are of the most probable class{at_threshold} ECE has no "
            "interval; brackets show the range that perfectly calibrated probabilities would "
            "give on as many slides."
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
        return classified.weighted(
            self._positive_last(targets), predictions[:, self._order], weights
        )

    def validation_metrics(
        self, targets: Targets, predictions: Predictions
    ) -> dict[str, float | None]:
        """See `mil.statistics.classified.classification`."""
        return classified.classification(targets, predictions)

    def metrics(self, test: EvaluationSet) -> dict[str, float | None]:
        """See `mil.statistics.classified.plain`."""
        return classified.plain(
            self._positive_last(test.targets),
            test.predictions[:, self._order],
            test.thresholds if self._two else None,
        )

    def metrics_with_intervals(self, test: EvaluationSet) -> MetricsOfSet:  # type: ignore[override]
        """Metrics with intervals, and the confusion matrix.

        Predicted classes of two are those at the thresholds, else the most probable.
        """
        labels = self._positive_last(test.targets)
        probabilities = test.predictions[:, self._order]
        thresholds = test.thresholds if self._two else None
        predicted = probabilities.argmax(-1)
        if thresholds is not None:
            predicted = (probabilities[:, 1] >= thresholds).astype(int)
        counts = confusion(labels, predicted, len(self.classes))
        measured = classified.with_intervals(labels, probabilities, test.patients, thresholds)
        names = [self.classes[number] for number in self._order]
        return measured._replace(confusion=Confusion(classes=names, table=counts.tolist()))

    def power(self, test: EvaluationSet) -> PowerNote | None:
        """Smallest AUROC and difference of AUROCs that the slides could show."""
        if not self._two:
            return None
        scores = test.predictions[:, self._order][:, 1]
        return power_note(self._positive_last(test.targets), scores, test.patients)

    def uncalibrated(self, predictions: Sequence[float], temperature: float) -> Sequence[float]:
        """Softmax of the logits before they were divided by the temperature.

        It is softmax(logits / T) to the power T, scaled to sum to 1.
        """
        powers = [value**temperature for value in predictions]
        total = sum(powers)
        return [value / total for value in powers]

    def calibration(self, before: EvaluationSet, after: EvaluationSet) -> CalibrationNote:
        """Brier score and calibration error before and after the temperature."""
        errors = []
        for test in (before, after):
            labels = self._positive_last(test.targets)
            probabilities = test.predictions[:, self._order]
            errors.append(
                CalibrationErrors(
                    brier=brier(labels, probabilities), ece=ece(labels, probabilities)
                )
            )
        return CalibrationNote(errors[0], errors[1], reliability(labels, probabilities))

    def main_metric_of(self, targets: Targets, predictions: Predictions, weights: Weights) -> Draws:
        """Macro AUROC, without the other metrics."""
        return one_vs_rest(weighted_auroc, targets, predictions, weights)

    def paired_test(
        self,
        targets: Targets,
        predictions: Sequence[Predictions],
        patients: Sequence[str],
        pairs: Sequence[tuple[int, int]],
    ) -> PairedTest:
        """DeLong's test of the AUROCs of two classes, else the bootstrap."""
        if not self._two:
            return super().paired_test(targets, predictions, patients, pairs)
        positive = self.classes.index(self.positive)
        scores = np.stack([predicted[:, positive] for predicted in predictions])
        areas = delong((targets == positive).astype(int), scores, patients)
        differences = [paired(areas, *pair) for pair in pairs]
        return PairedTest(OBUCHOWSKI if areas.several else DELONG, differences)

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

    def _positive_last(self, targets: Targets) -> Int[np.ndarray, " n"]:
        """Class numbers in the order of `_order`."""
        place = np.argsort(self._order)
        return place[targets]


TASK = Classification
