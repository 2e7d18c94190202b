"""Slides of one patient trained on and answered as one bag."""

import json

import numpy as np
import pytest

from mil.errors import DatasetError
from mil.io.bags import read_bag
from mil.io.bags.patients import concatenate_bags
from mil.io.tables import read_csv
from mil.train.stage import run as train
from mil.trained import apply, load_trained
from tests.scored import evaluate
from tests.split.cohorts import divide
from tests.synthetic import bag_file, planted_bags


@pytest.fixture
def study(tmp_path):
    """20 patients of two slides each, one with the planted tile; centres; an early-fusion head."""
    lines = ["slide,patient,label,centre"]
    for number, (features, label) in enumerate(planted_bags(count=20)):
        for part in range(2):
            slide = f"s{number}_{part}"
            rows = (
                features
                if part == label
                else np.random.default_rng(1000 + number).normal(size=features.shape)
            )
            bag_file(tmp_path / "bags" / f"{slide}.h5", slide, rows)
            lines.append(
                f"{slide},p{number},{('normal', 'tumour')[label]},{'xy'[part]}{number % 4}"
            )
    (tmp_path / "d.csv").write_text("\n".join(lines))
    (tmp_path / "d.yaml").write_text("classes: [normal, tumour]\n")
    (tmp_path / "fast.yaml").write_text(
        "name: abmil\noptions: {hidden: 16, attention: 8, dropout: 0}\nlosses: {cross_entropy: 1}\n"
        "train: {epochs: 3, lr: 0.01, batch_bags: 4}\n"
    )
    divide(tmp_path, fusion="early")
    fit(tmp_path, "out/folds.csv", "head")
    return tmp_path


def fit(study, folds, out):
    train(
        str(study / "d.yaml"),
        study / "bags",
        study / folds,
        study / out,
        recipe=str(study / "fast.yaml"),
        fold=0,
        seed=1,
        threads=1,
        device="cpu",
    )


def test_a_patient_is_one_bag_in_training_and_in_predictions(study):
    metrics = evaluate(
        str(study / "d.yaml"),
        [study / "head"],
        study / "bags",
        study / "out/folds.csv",
        study / "evaluated",
        slides_dir=study,
        threads=1,
    )
    rows = read_csv(study / "evaluated/predictions.csv")
    assert (
        sorted(row["slide"] for row in rows)
        == sorted(row["patient"] for row in rows)
        == sorted(f"p{i}" for i in range(20))
    )
    assert (metrics["fusion"], metrics["test_patients"]["fusion"]) == ("early", "early")
    assert (
        metrics["test"]["n_patients"]
        == metrics["test"]["n_slides"]
        == sum(row["split"] == "test" for row in rows)
    )
    assert json.loads((study / "head/recipe.json").read_text())["fusion"] == "early"
    head, trained = load_trained(study / "head")
    together = concatenate_bags([read_bag(study / f"bags/s3_{part}.h5") for part in range(2)], "p3")
    predicted = next(float(row["p_tumour"]) for row in rows if row["slide"] == "p3")
    assert predicted == pytest.approx(apply(head, trained, together).predictions[1], abs=1e-6)
    assert metrics["subgroups"] == {}  # no patient's slides are all of one centre


def written(study, lines):
    (study / "own.csv").write_text("\n".join(["fold,slide,patient,label,split,held_out", *lines]))


def evaluated(study):
    """Predictions and metrics over the folds file that was written."""
    metrics = evaluate(
        str(study / "d.yaml"),
        [study / "own_head"],
        study / "bags",
        study / "own.csv",
        study / "own",
        slides_dir=study,
        threads=1,
    )
    return read_csv(study / "own/predictions.csv"), metrics


def test_what_a_fold_leaves_out_is_named_and_slides_of_other_folds_are_not_asked_for(study):
    lines = [
        "0,s0_0,p0,normal,test,x",
        "0,s1_1,p1,tumour,test,x",
        "0,s2_0,p2,normal,train,x",
        "1,s4_0,p4,normal,test,y",
    ]
    written(study, lines)
    fit(study, "own.csv", "own_head")
    rows, metrics = evaluated(study)
    assert [(row["slide"], row["held_out"]) for row in rows] == [
        ("s0_0", "x"),
        ("s1_1", "x"),
        ("s2_0", "x"),
    ]
    assert [(run["fold"], run["held_out"]) for run in metrics["runs"]] == [(0, "x")]
    assert "held_out" not in metrics["over_runs"]
    written(study, lines[3:])
    with pytest.raises(DatasetError, match=r"own\.csv: has no fold 0, which fast was trained on"):
        evaluated(study)
