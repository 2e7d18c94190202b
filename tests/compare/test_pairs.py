"""Pairs of heads of every task, against what the metrics are alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from lifelines.utils import concordance_index
from scipy import stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mil.compare.pairs import compare_pairs
from mil.compare.read import EvaluatedHead
from mil.compare.stage import run as compare
from mil.io.results import Metrics, SetMetrics
from mil.statistics.bootstrap import paired_difference
from tests.compare.heads import evaluated

N = 60
RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=N)


def head(name, kind, labels, columns, classes=()):
    empty = SetMetrics(n_slides=0, n_patients=0)
    metrics = Metrics(
        recipe=name,
        encoder="e",
        dataset="toy",
        task=kind,
        classes=list(classes),
        positive=classes[-1] if classes else "",
        test=empty,
        test_patients=empty,
        runs=[],
        over_runs={},
    )
    slides = [f"s{i}" for i in range(len(labels))]
    by_slide = dict(zip(slides, labels, strict=True))
    patients = dict(zip(slides, slides, strict=True))
    predictions = np.stack(list(columns.values()), 1)
    return EvaluatedHead(Path(name), metrics, by_slide, patients, predictions)


def two(kind, labels, columns, classes=()):
    """A head that is near the truth and one that is less so."""
    return [
        head(name, kind, labels, columns(TRUE + noise * RNG.normal(size=N)), classes)
        for name, noise in (("a", 0.2), ("b", 1.0))
    ]


def test_numbers():
    heads = two("regression", [f"{value:.6f}" for value in TRUE], lambda said: {"predicted": said})
    found = compare_pairs(heads)
    errors = [np.abs(one.predictions[:, 0] - TRUE) for one in heads]
    (pair,) = found.pairs
    assert (found.metric, found.method) == ("mae", "paired bootstrap of patients")
    assert pair.difference == pytest.approx(errors[0].mean() - errors[1].mean(), abs=1e-5)
    t = stats.ttest_rel(*errors)  # a mean of differences: the bootstrap's error is the plain one
    assert (pair.ci95[1] - pair.ci95[0]) / 2 == pytest.approx(
        1.96 * pair.difference / t.statistic, rel=0.08
    )
    assert pair.p < 1e-6


@pytest.mark.parametrize("kind", ["survival_cox", "survival_discrete"])
def test_survival(kind):
    times = np.exp(-TRUE)
    events = RNG.random(N) < 0.7
    labels = [
        f"{time:.6f}" + ("" if event else "+") for time, event in zip(times, events, strict=True)
    ]
    heads = two(kind, labels, lambda said: {"risk": said, "survival_1": -said})
    (pair,) = compare_pairs(heads).pairs
    want = [concordance_index(times, -one.predictions[:, 0], events) for one in heads]
    assert pair.difference == pytest.approx(want[0] - want[1])
    assert pair.p < 0.01


def test_ordinal():
    classes = ["low", "mid", "high"]
    labels = [classes[i] for i in np.digitize(TRUE, [-0.5, 0.5])]

    def columns(said):
        near = np.exp(-((said[:, None] - [-1, 0, 1]) ** 2) * 4)
        return {
            f"p_{name}": p
            for name, p in zip(classes, (near / near.sum(1, keepdims=True)).T, strict=True)
        }

    heads = two("ordinal", labels, columns, classes)
    (pair,) = compare_pairs(heads).pairs
    said = [one.predictions for one in heads]
    want = [
        cohen_kappa_score([classes.index(x) for x in labels], expected(p), weights="quadratic")
        for p in said
    ]
    assert pair.difference == pytest.approx(want[0] - want[1])


def expected(p):
    """The class with at least half of the probability at or below it."""
    return (p.cumsum(1) < 0.5).sum(1)


def test_several_classes_of_a_slide():
    classes = ["x", "y"]
    there = np.stack([TRUE > 0, TRUE < 0.5], 1)
    labels = [
        ";".join(name for name, yes in zip(classes, row, strict=True) if yes) for row in there
    ]

    def columns(said):
        p = 1 / (1 + np.exp(-np.stack([said, 0.5 - said], 1)))
        return {f"p_{name}": p[:, i] for i, name in enumerate(classes)}

    heads = two("multilabel", labels, columns, classes)
    (pair,) = compare_pairs(heads).pairs
    want = [
        np.mean([roc_auc_score(there[:, i], one.predictions[:, i]) for i in range(2)])
        for one in heads
    ]
    assert pair.difference == pytest.approx(want[0] - want[1])


def test_what_the_slides_do_not_have_is_not_tested():
    p = np.full(N, 1 / 3)
    heads = [
        head(name, "classification", ["x"] * N, dict.fromkeys(("p_x", "p_y", "p_z"), p), "xyz")
        for name in "ab"
    ]
    found = compare_pairs(heads)
    assert (found.pairs, found.method, found.why_not) == (
        [],
        None,
        "these slides have no AUROC, macro",
    )
    assert compare_pairs(heads[:1]).why_not == "there is one head"
    none = [one._replace(labels={}, patients={}) for one in heads]
    assert compare_pairs(none).why_not == "they share no test slide"


def test_a_pair_in_which_nothing_varies_is_not_tested():
    """Two heads that rank all slides right, and a third that does not."""
    right = (TRUE > 0).astype(float)
    answers = [0.2 + 0.6 * right, 0.1 + 0.8 * right, 1 / (1 + np.exp(-TRUE - RNG.normal(size=N)))]
    labels = ["tumour" if yes else "normal" for yes in right]
    heads = [
        head(
            name, "classification", labels, {"p_normal": 1 - p, "p_tumour": p}, ["normal", "tumour"]
        )
        for name, p in zip("abc", answers, strict=True)
    ]
    perfect, *others = compare_pairs(heads).pairs
    assert perfect.model_dump() == {
        "one": "a · e",
        "other": "b · e",
        "difference": 0.0,
        "ci95": None,
        "p": None,
        "p_holm": None,
        "smallest_difference": None,
    }
    assert others[0].p == others[1].p < 0.01
    assert others[0].p_holm == pytest.approx(2 * others[0].p)  # of two tests, not three


def test_too_few_resamples_with_a_value_are_no_test():
    found = paired_difference(0.1, np.array([np.nan, np.nan, 0.2]), 3)
    assert found == (0.1, 0.0, None, None)


def test_one_pair_on_few_slides(tmp_path):
    """Nothing to correct for; and no AUROC differs by more than 1 from another."""
    found = compare(
        [evaluated(tmp_path, name, 0.5, slides=4) for name in ("a", "zz")], tmp_path / "out"
    ).to_json()
    assert found["tests"]["pairs"][0]["smallest_difference"] > 1
    assert found["notes"][-1].endswith(
        "on the slides' predictions. With power 0.8 this test set is too small to show any "
        "difference; one may exist all the same."
    )


def test_patients_of_early_fusion_are_not_called_slides(tmp_path):
    folder = evaluated(tmp_path, "a", 0.5)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "fusion": "early"}))
    said = compare([folder], tmp_path / "out").notes[0]
    assert said.startswith("60 test patients, all slides of each as one bag. The 95 % ")
