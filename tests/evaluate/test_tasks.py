"""From bags to metrics.json, report and heatmap, for every task."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mil.compare.stage import run as compare
from mil.config.labels import TASKS
from mil.evaluate.subgroups import by_patient, metrics_of_patients
from mil.evaluate.text import metrics_line
from mil.io.results import Metrics, Prediction
from mil.io.tables import read_csv
from mil.losses.tasks import target_tensor
from mil.report.stage import run as report
from mil.tasks import Multilabel, Ordinal, Regression
from mil.train.stage import run as train
from mil.trained import load_trained
from tests.scored import evaluate, heatmap
from tests.tasks.planted import write_study

BEST = {
    "classification": ("auroc", "AUROC"),
    "multilabel": ("auroc_macro", "macro AUROC"),
    "ordinal": ("kappa_quadratic", "quadratic kappa"),
    "regression": ("r2", "MAE"),
    "survival_discrete": ("c_index", "C-index"),
    "survival_cox": ("c_index", "C-index"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_study_of_every_task(tmp_path, kind):
    study = write_study(tmp_path, kind)
    toy = str(study / "toy.yaml")
    bags = study / "bags"
    folds = study / "folds.csv"
    heads = []
    (study / "r.yaml").write_text(
        "name: abmil\noptions: {hidden: 8, attention: 8}\nlosses: {cross_entropy: 1}\n"
        "train: {epochs: 10, batch_bags: 12, lr: 2.0e-2}\n"
    )
    for seed in (1, 2):
        heads.append(study / f"head{seed}")
        how = {
            "recipe": str(study / "r.yaml"),
            "fold": 0,
            "seed": seed,
            "threads": 1,
            "device": "cpu",
        }
        train(toy, bags, folds, heads[-1], **how)
    metrics = evaluate(toy, heads, bags, folds, study / "evaluate", slides_dir=study, threads=1)
    assert json.loads((study / "evaluate" / "metrics.json").read_text()) == metrics
    task = load_trained(heads[0])[1].task

    best, heading = BEST[kind]
    assert metrics["task"] == kind
    low, high = metrics["test"][best]["ci95"]
    assert 0.3 < low <= metrics["test"][best]["value"] <= high
    assert (metrics["test"]["n_slides"], metrics["test"]["n_patients"]) == (30, 15)
    assert metrics["over_runs"][best]["sd"] >= 0

    rows = [
        row for row in read_csv(study / "evaluate" / "predictions.csv") if row["split"] == "test"
    ]
    assert {*task.columns} <= set(rows[0])
    if kind != "classification":  # which has its own test
        slides = sorted({row["slide"] for row in rows})
        of = {slide: [row for row in rows if row["slide"] == slide] for slide in slides}
        answers = np.array(
            [[np.mean([float(r[c]) for r in of[s]]) for c in task.columns] for s in slides]
        )
        targets = np.stack([target_tensor(task, of[s][0]["label"]).numpy() for s in slides])
        np.testing.assert_allclose(
            targets, np.stack([task.target(of[s][0]["label"]) for s in slides]), rtol=1e-6
        )
        want = task.validation_metrics(targets, answers)
        assert {name: metrics["test"][name]["value"] for name in want} == pytest.approx(
            want, abs=1e-6
        )

    assert f"test {heading} " in metrics_line(Metrics.model_validate(metrics))
    again = evaluate(toy, heads[:1], bags, folds, study / "first", slides_dir=study, threads=1)
    (study / "first" / "metrics.json").write_text(json.dumps(again | {"recipe": "another"}))
    found = compare([study / "evaluate", study / "first"], study / "compare").to_json()
    name = task.main_metric
    (pair,) = found["tests"]["pairs"]
    assert found["tests"]["metric"] == name
    assert pair["difference"] == pytest.approx(
        metrics["test"][name]["value"] - again["test"][name]["value"], abs=1e-6
    )
    said = heatmap(
        heads,
        bags / "s85.h5",
        None,
        study / "heatmaps" / "s85.png",
        folds=folds,
        annotation=None,
        scale="percentile",
    )
    assert said.startswith("s85   ")
    assert " = " in said
    report(
        toy,
        [],
        [bags],
        [study / "evaluate"],
        [study / "heatmaps"],
        study / "report.html",
        comparison=study / "compare" / "comparison.json",
    )
    page = (study / "report.html").read_text()
    assert f">{heading}</th>" in page
    assert ("precision-recall curves</h2>" in page) == (kind in ("classification", "multilabel"))


def test_a_slide_without_any_class_is_not_torn():
    task = Multilabel(classes=["a", "b"], positive="b")
    rows = [
        Prediction(s, p, "test", label, {"p_a": 0.2, "p_b": 0.3}, "r", "e", 1, 0)
        for s, p, label in (("1", "p", ""), ("2", "p", ""), ("3", "q", "b"))
    ]
    assert [(row.label, row.n_slides) for row in by_patient(rows)] == [
        ("", 2),
        ("b", 1),
    ]
    assert not metrics_of_patients(rows, task).note
    rows[1] = replace(rows[1], label="a")
    assert metrics_of_patients(rows, task).note.startswith(
        "1 of 2 patients have slides of different labels (p)"
    )


def test_which_slides_should_attend_to_what_is_annotated():
    assert Regression(mean=0.0, deviation=1.0).attends_to_annotations("12.5")
    assert [
        Multilabel(classes=["a", "b"], positive="b").attends_to_annotations(label)
        for label in ("a;b", "a", "")
    ] == [
        True,
        False,
        False,
    ]
    assert [
        Ordinal(classes=["a", "b"], positive="b").attends_to_annotations(label)
        for label in ("a", "b")
    ] == [False, True]
