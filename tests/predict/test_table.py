"""Rows of predictions.csv: mean, spread, and what a slide is called, for every task."""

import numpy as np
import pytest

from mil.predict.messages import done
from mil.predict.result import SlidePrediction
from mil.predict.table import row_of
from mil.tasks import Classification, Multilabel, Ordinal, Regression, SurvivalCox, SurvivalDiscrete
from mil.trained import Calibration
from tests.predict.made import TWO, ensemble

THREE = ["a", "b", "c"]


def row(task, *answers) -> dict:
    found = SlidePrediction("s", "ok", "", 7, [np.array(one) for one in answers])
    return row_of(found, ensemble(task, len(answers)))


def test_mean_and_spread():
    found = row(TWO, [0.6, 0.4], [0.3, 0.7], [0.1, 0.9])
    assert list(found) == [
        "slide",
        "state",
        "reason",
        "tiles",
        "heads",
        "p_normal",
        "p_tumour",
        "sd_normal",
        "min_normal",
        "max_normal",
        "sd_tumour",
        "min_tumour",
        "max_tumour",
        "temperature",
        "threshold",
        "called",
    ]
    numbers = [float(found[f"{what}_tumour"]) for what in ("p", "sd", "min", "max")]
    np.testing.assert_allclose(
        numbers, [2 / 3, np.sqrt((0.16 + 0.49 + 0.81 - 4 / 3) / 2), 0.4, 0.9], rtol=1e-8
    )
    assert (found["heads"], found["called"], found["temperature"]) == (3, "tumour", "")
    assert row(TWO, [0.6, 0.4])["sd_tumour"] == ""


def test_a_slide_without_an_answer_has_the_same_columns():
    lost = row_of(SlidePrediction("s", "no_mpp", "because"), ensemble(TWO))
    assert list(lost) == list(row(TWO, [0.6, 0.4]))
    assert {name: value for name, value in lost.items() if value != ""} == {
        "slide": "s",
        "state": "no_mpp",
        "reason": "because",
        "tiles": 0,
        "heads": 0,
    }


@pytest.mark.parametrize(
    ("task", "answers", "name"),
    [
        (TWO, [0.5, 0.5], "tumour"),
        (Classification(classes=THREE, positive="b"), [0.2, 0.3, 0.5], "c"),
        (
            Ordinal(classes=THREE, positive="b"),
            [0.4, 0.2, 0.4],
            "b",
        ),  # the median, not the most probable
        (Multilabel(classes=THREE, positive="b"), [0.6, 0.2, 0.5], "a;c"),
        (Multilabel(classes=THREE, positive="b"), [0.1, 0.2, 0.3], ""),
        (Regression(mean=1.0, deviation=2.0), [0.7], ""),
        (SurvivalDiscrete(ends=[1.0, 2.0]), [0.5, 0.9, 0.6], ""),
    ],
)
def test_what_a_slide_is_called(task, answers, name):
    assert row(task, answers)["called"] == name


@pytest.mark.parametrize(
    ("task", "answers", "said"),
    [
        (
            TWO,
            [[0.4, 0.6], [0.2, 0.8]],
            "p(tumour) = 0.700 (threshold 0.500, sd 0.141 over 2 heads), called tumour; 7 tiles",
        ),
        (Regression(mean=1.0, deviation=2.0), [[3.25]], "predicted = 3.250; 7 tiles"),
        (SurvivalCox(), [[-0.5]], "log risk = -0.500; 7 tiles"),
    ],
)
def test_the_line_about_a_slide(task, answers, said):
    found = SlidePrediction("s", "ok", "", 7, [np.array(one) for one in answers], tiles_per_s=3.6)
    assert done(found, ensemble(task, len(answers))) == f"predict s: ok, {said}, 4 a second"


def test_the_threshold_holds_for_two_classes_only():
    two = ensemble(TWO).trained
    for p, threshold, name in (
        (0.3, None, "normal"),
        (0.3, 0.25, "tumour"),
        (0.3, 0.3, "tumour"),
        (0.6, 0.61, "normal"),
    ):
        assert two.task.predicted_class(np.array([1 - p, p]), threshold) == name
    turned = ensemble(Classification(classes=["tumour", "normal"], positive="tumour")).trained
    assert turned.task.predicted_class(np.array([0.3, 0.7]), 0.25) == "tumour"
    three = ensemble(Classification(classes=THREE, positive="b")).trained
    assert three.task.predicted_class(np.array([0.2, 0.3, 0.5]), 0.25) == "c"


def test_temperature_and_threshold_are_the_heads_mean():
    found = SlidePrediction("s", "ok", "", 7, [np.array([0.7, 0.3]), np.array([0.5, 0.5])])
    both = [
        Calibration(temperature=1.5, threshold=0.2),
        Calibration(temperature=2.5, threshold=0.5),
    ]
    said = row_of(found, ensemble(TWO, calibrations=both))
    assert (said["temperature"], said["threshold"], said["called"]) == ("2", "0.35", "tumour")
    for lacking in (None, Calibration(temperature=2.5)):
        said = row_of(found, ensemble(TWO, calibrations=[both[0], lacking]))
        assert (said["threshold"], said["called"]) == ("0.5", "normal")
