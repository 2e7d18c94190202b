"""All metrics of a set of slides, with intervals of the nominal coverage."""

import json

import numpy as np
import pytest
from sklearn import metrics as theirs

from mil.statistics import bootstrap, classified
from mil.statistics.classified import classification, plain
from mil.statistics.intervals import wilson
from tests.statistics.coverage import SETTINGS, covered, draw


def with_intervals(*args, **settings):
    """Metrics with their intervals, as JSON has them, and the number of patients."""
    measured = classified.with_intervals(*args, **settings)
    metrics = {name: metric.model_dump() for name, metric in measured.metrics.items()}
    return {**metrics, "n_patients": measured.n_patients}


def sample(n=60, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return labels, rng.dirichlet(np.ones(classes), n) * 0.5 + 0.5 * np.eye(classes)[
        labels
    ] * rng.random((n, 1)) + 1e-9


def normed(labels, raw):
    return labels, raw / raw.sum(1, keepdims=True)


def test_two_classes_against_scikit_learn():
    labels, p = normed(*sample())
    thresholds = np.full(60, 0.4)
    found = plain(labels, p, thresholds)
    called = (p[:, 1] >= 0.4).astype(int)
    likely = p.argmax(1)
    want = {
        "auroc": theirs.roc_auc_score(labels, p[:, 1]),
        "auprc": theirs.average_precision_score(labels, p[:, 1]),
        "balanced_accuracy": theirs.balanced_accuracy_score(labels, called),
        "f1_macro": theirs.f1_score(labels, called, average="macro"),
        "f1_micro": theirs.f1_score(labels, called, average="micro"),
        "accuracy": theirs.accuracy_score(labels, called),
        "sensitivity": theirs.recall_score(labels, called),
        "specificity": theirs.recall_score(labels, called, pos_label=0),
        "ppv": theirs.precision_score(labels, called),
        "npv": theirs.precision_score(labels, called, pos_label=0),
        "brier": theirs.brier_score_loss(labels, p[:, 1]),
    }
    most_probable = {
        "balanced_accuracy_most_probable": theirs.balanced_accuracy_score(labels, likely),
        "f1_macro_most_probable": theirs.f1_score(labels, likely, average="macro"),
        "f1_micro_most_probable": theirs.f1_score(labels, likely, average="micro"),
        "accuracy_most_probable": theirs.accuracy_score(labels, likely),
    }
    assert list(found) == [*want, "ece", *most_probable]
    want |= most_probable
    assert want["accuracy"] != want["accuracy_most_probable"]
    assert {name: found[name] for name in want} == pytest.approx(want)
    assert classification(labels, p) == pytest.approx(
        {
            "auroc_macro": want["auroc"],
            "f1_macro": want["f1_macro_most_probable"],
            "accuracy": want["accuracy_most_probable"],
        }
    )
    assert classification(labels, p, called)["accuracy"] == pytest.approx(want["accuracy"])


def test_three_classes():
    labels, p = normed(*sample(classes=3))
    found = with_intervals(labels, p, [f"p{i}" for i in range(60)], resamples=100)
    assert "sensitivity" not in found
    assert found["auroc_macro"]["value"] == pytest.approx(
        theirs.roc_auc_score(labels, p, multi_class="ovr")
    )
    for metric in found.values():
        if isinstance(metric, dict) and metric["ci95"]:
            assert metric["ci95"][0] < metric["value"] < metric["ci95"][1]


def test_each_slide_may_have_its_own_threshold():
    labels = np.array([1, 1, 0, 0])
    p = np.array([0.3, 0.8, 0.3, 0.8])
    found = plain(labels, np.stack([1 - p, p], 1), np.array([0.2, 0.9, 0.4, 0.9]))
    assert (found["sensitivity"], found["specificity"]) == (0.5, 1.0)
    assert (found["accuracy"], found["accuracy_most_probable"]) == (0.75, 0.5)


def test_the_same_twice_and_as_json():
    labels, p = normed(*sample())
    first, again = (
        with_intervals(labels, p, [f"p{i // 2}" for i in range(60)], resamples=100)
        for _ in range(2)
    )
    assert first == again
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first["n_patients"] == 30


def test_the_order_of_slides_and_names_of_patients_change_nothing_but_the_draw():
    labels, p = normed(*sample())
    order = np.random.default_rng(1).permutation(60)
    one = with_intervals(labels, p, [f"p{i}" for i in range(60)], resamples=100)
    other = with_intervals(labels[order], p[order], [f"q{i}" for i in order], resamples=100)
    for name in ("auroc", "accuracy", "sensitivity"):
        assert one[name]["value"] == pytest.approx(other[name]["value"])
        assert one[name]["ci95"] == pytest.approx(other[name]["ci95"])


def test_whole_patients_are_drawn():
    member = np.array([0, 0, 1, 2, 2, 2])
    drawn = np.concatenate(list(bootstrap.weights(member, resamples=200)))
    assert drawn.shape == (200, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 3] == drawn[:, 5]).all()
    assert (drawn[:, [0, 2, 3]].sum(1) == 3).all()
    np.testing.assert_allclose(drawn[:, [0, 2, 3]].mean(0), 1, atol=0.15)


def test_blocks_make_no_difference(monkeypatch):
    labels, p = normed(*sample())
    whole = with_intervals(labels, p, [str(i) for i in range(60)], resamples=50)
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * 60)
    assert with_intervals(labels, p, [str(i) for i in range(60)], resamples=50) == whole


def test_a_perfect_set_is_not_certain():
    labels = np.array([0, 1] * 10)
    p = np.array([0.1, 0.9] * 10)
    found = with_intervals(
        labels, np.stack([1 - p, p], 1), [str(i) for i in range(20)], resamples=50
    )
    for name in ("balanced_accuracy", "f1_macro", "auprc"):
        assert found[name] == {"value": 1.0, "ci95": pytest.approx(list(wilson(1.0, 20)))}
    assert found["sensitivity"]["ci95"] == pytest.approx(list(wilson(1.0, 10)))
    assert 0.7 < found["auroc"]["ci95"][0] < 0.9


def test_a_single_class_has_no_auroc_and_does_not_crash():
    found = with_intervals(
        np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]]), ["a", "b"], resamples=20
    )
    for name in ("auroc", "auprc", "specificity"):
        assert found[name] == {"value": None, "ci95": None}
    assert found["accuracy"]["value"] == 0.5


def test_a_single_patient_has_no_interval():
    found = with_intervals(
        np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]]), ["a", "a"], resamples=20
    )
    assert found["accuracy"] == {"value": 1.0, "ci95": None}
    assert found["auroc"] == {"value": 1.0, "ci95": None}


@pytest.mark.slow
@pytest.mark.parametrize("setting", [SETTINGS[1], SETTINGS[6]], ids=lambda setting: setting.name)
def test_intervals_have_their_nominal_coverage(setting):
    """A light round of `coverage.py`, whose figures are in docs/explain/statistics.md.

    250 samples are good for ± 3 %.
    """
    for name, _, percent, _ in covered(setting, 250, 150):
        assert 91.5 <= percent <= 99, name


def test_the_simulated_truth():
    labels, p, who = draw(np.random.default_rng(0), SETTINGS[6], 2000)
    assert 4000 < len(labels) < 6000
    assert len(set(who)) == 2000
    assert plain(labels, p)["auroc"] == pytest.approx(0.9, abs=0.02)  # Phi(1.8 / sqrt 2)
