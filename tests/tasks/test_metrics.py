"""Metrics of tasks against scikit-learn, scipy and lifelines; weights against rows written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from scipy import stats
from sklearn import metrics

from mil.statistics.continuous import regression
from mil.statistics.multilabel import multilabel
from mil.statistics.ordinal import ordinal, ranks_of
from mil.statistics.survival import concordance
from mil.tasks import CLASSES, EvaluationSet, Multilabel, Ordinal, Regression, SurvivalCox

NAMES = ["a", "b", "c"]
TASKS = {
    "classification": CLASSES,
    "multilabel": Multilabel(classes=NAMES, positive="c"),
    "ordinal": Ordinal(classes=NAMES, positive="c"),
    "regression": Regression(mean=0.0, deviation=1.0),
    "survival": SurvivalCox(),
}


def drawn(kind, n=60, seed=0, noise=1.0):
    """Targets, and answers that know something of them."""
    draw = np.random.default_rng(seed)
    truth = draw.normal(size=(n, 3))
    error = noise * draw.normal(size=(n, 3))
    seen = truth + error
    soft = np.exp(seen) / np.exp(seen).sum(1, keepdims=True)
    if kind == "classification":
        return (truth[:, 1] > truth[:, 0]).astype(int), soft[:, :2] / soft[:, :2].sum(
            1, keepdims=True
        )
    if kind == "multilabel":
        return (truth > 0).astype(float), 1 / (1 + np.exp(-seen))
    if kind == "ordinal":
        return truth.argmax(1), soft
    if kind == "regression":
        return truth[:, 0], seen[:, :1]
    return np.stack([np.exp(truth[:, 0]).round(1), truth[:, 1] > -0.5], 1), -seen[:, :1].round(1)


def metrics_of_task(task, targets, predictions):
    return task.validation_metrics(targets, predictions)


def intervals_of_task(task, targets, predictions, patients, *, resamples=1000):
    """`value` and `ci95` of each metric, and the number of patients."""
    test = EvaluationSet(targets, predictions, patients, np.full(len(targets), 0.5))
    measured = task.metrics_with_intervals(test, resamples=resamples)
    metrics = {name: metric.model_dump() for name, metric in measured.metrics.items()}
    return metrics, measured.n_patients


def once(n):
    return np.ones((1, n))


@pytest.mark.parametrize("decimals", [9, 0], ids=["no ties", "ties"])
def test_regression_is_that_of_scikit_learn_and_scipy(decimals):
    labels, predicted = (values.round(decimals) for values in drawn("regression"))
    found = metrics_of_task(TASKS["regression"], labels, predicted)
    predicted = predicted[:, 0]
    assert found == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(labels, predicted),
            "rmse": metrics.root_mean_squared_error(labels, predicted),
            "r2": metrics.r2_score(labels, predicted),
            "pearson": stats.pearsonr(labels, predicted)[0],
            "spearman": stats.spearmanr(labels, predicted)[0],
        }
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)),
        min_size=3,
        max_size=25,
    )
)
def test_weights_are_rows_written_out(rows):
    one, other, times = (np.array(column, float) for column in zip(*rows, strict=True))
    if times.sum() < 2:
        return
    events = other > 0
    ours = [
        {"c": concordance(one, events, other, times[None])},
        regression(one, other, times[None]),
    ]
    one, other, events = (np.repeat(values, times.astype(int)) for values in (one, other, events))
    theirs = [
        {"c": concordance(one, events, other, once(len(one)))},
        regression(one, other, once(len(one))),
    ]
    for mine, want in zip(ours, theirs, strict=True):
        for name in want:
            np.testing.assert_allclose(mine[name], want[name], atol=1e-12)


def test_what_does_not_differ_has_no_correlation():
    flat = regression(np.array([0.1, 0.1, 0.1]), np.array([1.0, 2.0, 3.0]), once(3))
    assert np.isnan([flat[name][0] for name in ("r2", "pearson", "spearman")]).all()
    flat = regression(np.array([1.0, 2.0, 3.0]) * 1e6, np.array([0.1, 0.1, 0.1]), once(3))
    assert np.isnan([flat[name][0] for name in ("pearson", "spearman")]).all()
    assert (
        metrics_of_task(TASKS["regression"], np.array([0.1, 0.1]), np.array([[1.0], [2.0]]))[
            "pearson"
        ]
        is None
    )


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 4)), min_size=2, max_size=30
    )
)
def test_concordance_is_that_of_lifelines_ties_and_all(rows):
    times, events, risks = (
        np.array(column, kind)
        for column, kind in zip(zip(*rows, strict=True), (float, bool, float), strict=True)
    )
    found = concordance(times, events, risks, once(len(times)))[0]
    try:
        want = concordance_index(times, -risks, events)
    except ZeroDivisionError:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(want)


def test_concordance_in_blocks(monkeypatch):
    targets, answers = drawn("survival", n=80)
    whole = metrics_of_task(TASKS["survival"], targets, answers)["c_index"]
    monkeypatch.setattr("mil.statistics.survival._PAIRS", 160)
    assert metrics_of_task(TASKS["survival"], targets, answers)["c_index"] == pytest.approx(whole)
    assert whole == pytest.approx(concordance_index(targets[:, 0], -answers[:, 0], targets[:, 1]))


def test_ordinal_is_that_of_scikit_learn():
    labels, probabilities = drawn("ordinal")
    found = metrics_of_task(TASKS["ordinal"], labels, probabilities)
    predicted = ranks_of(probabilities)
    assert found == pytest.approx(
        {
            "kappa_quadratic": metrics.cohen_kappa_score(labels, predicted, weights="quadratic"),
            "mae_classes": metrics.mean_absolute_error(labels, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
            "accuracy": metrics.accuracy_score(labels, predicted),
        }
    )


def test_the_predicted_rank_is_the_median():
    assert ranks_of(np.array([[0.4, 0.2, 0.4], [0.6, 0.0, 0.4], [0.1, 0.3, 0.6]])).tolist() == [
        1,
        0,
        2,
    ]
    assert np.isnan(ordinal(np.zeros(3, int), np.eye(2)[[0, 0, 0]], once(3))["kappa_quadratic"][0])


def test_multilabel_is_that_of_scikit_learn():
    labels, probabilities = drawn("multilabel")
    found = metrics_of_task(TASKS["multilabel"], labels, probabilities)
    called = probabilities >= 0.5
    assert found == pytest.approx(
        {
            "auroc_macro": metrics.roc_auc_score(labels, probabilities, average="macro"),
            "auprc_macro": metrics.average_precision_score(labels, probabilities, average="macro"),
            "f1_macro": metrics.f1_score(labels, called, average="macro"),
            "f1_micro": metrics.f1_score(labels, called, average="micro"),
            "exact_match": metrics.accuracy_score(labels, called),
            **{
                f"auroc_{n}": metrics.roc_auc_score(labels[:, c], probabilities[:, c])
                for c, n in enumerate(NAMES)
            },
        }
    )


def test_a_class_that_all_slides_have_has_no_auroc():
    labels = np.array([[1.0, 0.0], [1.0, 1.0]])
    probabilities = np.array([[0.9, 0.2], [0.8, 0.7]])
    found = multilabel(labels, probabilities, ["x", "y"], once(2))
    assert np.isnan(found["auroc_x"][0])
    assert found["auroc_macro"][0] == found["auroc_y"][0] == 1.0


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind != "classification"])
def test_intervals_hold_the_value_and_what_many_slides_give(kind):
    patients = [f"p{i}" for i in range(60)]
    found, n_patients = intervals_of_task(TASKS[kind], *drawn(kind), patients, resamples=300)
    assert n_patients == 60
    many = metrics_of_task(TASKS[kind], *drawn(kind, n=4000, seed=9))
    for name, each in found.items():
        if each["ci95"] is not None:
            low, high = each["ci95"]
            assert low <= each["value"] <= high
            if name in many:
                assert low <= many[name] <= high, name


def test_an_interval_covers_95_times_in_100():
    """Of the C-index and of the mean absolute error, over 200 small studies."""
    hits = {"c_index": 0, "mae": 0, "spearman": 0}
    for kind in ("survival", "regression"):
        truth = metrics_of_task(TASKS[kind], *drawn(kind, n=4000, seed=10_000))
        for seed in range(200):
            found, _ = intervals_of_task(
                TASKS[kind],
                *drawn(kind, n=40, seed=seed),
                [str(i) for i in range(40)],
                resamples=200,
            )
            for name in hits.keys() & found.keys():
                hits[name] += found[name]["ci95"][0] <= truth[name] <= found[name]["ci95"][1]
    assert all(180 <= count <= 199 for count in hits.values()), hits


def test_one_patient_has_no_interval():
    found, _ = intervals_of_task(TASKS["regression"], *drawn("regression"), ["p"] * 60)
    assert found["mae"]["ci95"] is found["pearson"]["ci95"] is found["r2"]["ci95"] is None
