"""What metrics.json says of predictions: levels, subgroups, calibration, the last epoch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mil.config import Recipe
from mil.errors import DatasetError
from mil.evaluate.rows import EvaluatedSlide, averaged, evaluation_set
from mil.evaluate.subgroups import by_patient, metrics_of_patients, set_metrics, subgroups
from mil.evaluate.summary import metrics_of
from mil.heads import build_head
from mil.io.tables import read_csv, write_csv
from mil.tasks import Classification
from mil.trained import Calibration, Trained, save_trained
from tests.scored import evaluate
from tests.synthetic import bag_file

TASK = Classification(classes=["tumour", "normal"], positive="tumour")  # the positive one first
RECIPE = Recipe(name="abmil", options={"hidden": 8}, losses={"cross_entropy": 1})
DIM = 6


def row(
    slide, label, p, *, patient=None, seed=1, fold=0, temperature=1.0, threshold=0.5, split="test"
):
    return EvaluatedSlide(
        slide=slide,
        patient=patient or slide,
        split=split,
        label=label,
        predictions={"p_tumour": p, "p_normal": 1 - p},
        recipe="abmil",
        encoder="tiny",
        seed=seed,
        fold=fold,
        temperature=temperature,
        threshold=threshold,
        attention_entropy_share=0.5,
    )


def trained(**changes):
    return Trained(
        recipe_name="abmil",
        recipe=RECIPE,
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=DIM,
        task=TASK,
        dataset="toy",
        seed=1,
        fold=0,
        epoch=1,
        **changes,
    )


SLIDES = [
    row("a", "tumour", 0.9, patient="p"),
    row("b", "tumour", 0.4, patient="p"),
    row("c", "normal", 0.6, patient="q"),
    row("d", "normal", 0.1, patient="q"),
    row("e", "tumour", 0.7, patient="r"),
    row("f", "normal", 0.2, patient="s"),
]


def test_the_positive_class_may_stand_first():
    found = set_metrics(SLIDES, TASK).model_dump()
    p = [r.predictions["p_tumour"] for r in SLIDES]
    labels = [r.label == "tumour" for r in SLIDES]
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(labels, p))
    assert found["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert found["confusion"] == {"classes": ["normal", "tumour"], "table": [[2, 1], [1, 2]]}
    assert (found["n_slides"], found["n_patients"]) == (6, 4)


def test_thresholds_of_validation_are_used():
    found = set_metrics([replace(r, threshold=0.35) for r in SLIDES], TASK).model_dump()
    assert found["sensitivity"]["value"] == 1
    assert found["confusion"]["table"] == [[2, 1], [0, 3]]
    assert found["accuracy"]["value"] == pytest.approx(5 / 6)
    assert found["accuracy_most_probable"]["value"] == pytest.approx(4 / 6)
    without = evaluation_set([replace(r, threshold=None) for r in SLIDES], TASK)
    assert TASK.metrics(without)["sensitivity"] == pytest.approx(2 / 3)


def test_a_patient_gets_the_mean_of_its_slides():
    patients = {r.patient: r for r in by_patient(SLIDES)}
    assert patients["p"].predictions["p_tumour"] == pytest.approx(0.65)
    assert patients["q"].predictions["p_normal"] == pytest.approx(0.65)
    assert [patients[name].n_slides for name in "pqrs"] == [2, 2, 1, 1]
    found = metrics_of_patients(SLIDES, TASK).model_dump()
    assert (found["auroc"]["value"], found["fusion"], found["n_slides"], found["n_patients"]) == (
        1.0,
        "late",
        6,
        4,
    )


def test_patients_whose_slides_differ_in_label_have_none():
    torn = [*SLIDES, row("g", "normal", 0.3, patient="p")]
    found = metrics_of_patients(torn, TASK).model_dump()
    assert set(found) == {"note", "n_patients", "n_slides"}
    assert found["note"].startswith("1 of 4 patients have slides of different labels (p)")
    assert {r.patient: r.label for r in by_patient(torn)}["p"] == ""


def test_subgroups_of_columns_with_two_to_ten_values():
    columns = {
        "site": dict(zip("abcdef", ["x", "x", "x", "y", "y", ""], strict=True)),
        "same": dict.fromkeys("abcdef", "1"),
        "name": {
            **dict(zip("abcdef", "123456", strict=True)),
            **{str(i): str(i) for i in range(11)},
        },
    }
    tables = subgroups(SLIDES, TASK, columns)
    found = {
        column: {value: metrics.model_dump() for value, metrics in groups.items()}
        for column, groups in tables.items()
    }
    assert list(found) == ["site"]
    assert list(found["site"]) == ["(empty)", "x", "y"]
    x = found["site"]["x"]
    assert (x["auroc"]["value"], x["n_slides"], x["n_patients"]) == (0.5, 3, 2)
    assert found["site"]["(empty)"]["auroc"] == {"value": None, "ci95": None}
    assert "brier" not in x


def test_before_and_after_the_temperature():
    """Log odds 2, and 1 after a temperature of 2."""
    hot = 1 / (1 + np.exp(-1))
    raw = 1 / (1 + np.exp(-2))
    rows = [
        row("a", "tumour", hot, temperature=2.0, threshold=0.4),
        row("b", "normal", 1 - hot, temperature=2.0),
    ]
    rows = [
        replace(each, uncalibrated={"p_tumour": p, "p_normal": 1 - p})
        for each, p in zip(rows, (raw, 1 - raw), strict=True)
    ]
    few = Calibration(n=4, reason="too few validation slides (4)")
    metrics = metrics_of(rows, trained(), {}, calibrations=[few, Calibration(n=9)])
    found = metrics.to_json()["calibration"]
    assert found["note"] == (
        "Probabilities of 1 of 2 heads are not calibrated: too few validation slides (4)."
    )
    assert found["temperature"] == {"mean": 2.0, "sd": None}
    assert found["before"]["brier"] == pytest.approx((1 - raw) ** 2)
    assert found["after"]["brier"] == pytest.approx((1 - hot) ** 2)
    assert found["before"]["ece"] == pytest.approx(1 - raw)
    assert sum(each["n"] for each in found["reliability"]) == 2


def test_several_seeds_are_averaged_by_slide_and_counted_apart():
    # one seed is right, the other is wrong, and less sure of it
    rows = [r for r in SLIDES if r.slide in "ef"]
    wrong = [
        row(r.slide, r.label, 0.5 - (r.predictions["p_tumour"] - 0.5) / 4, seed=2) for r in rows
    ]
    everything = [*rows, *wrong, row("t", "tumour", 0.1, split="train")]
    found = metrics_of(everything, trained(), {}).to_json()
    assert [each["auroc"] for each in found["runs"]] == [1.0, 0.0]
    assert found["over_runs"]["auroc"] == {"mean": 0.5, "sd": pytest.approx(0.5**0.5)}
    assert found["test"]["auroc"]["value"] == 1.0
    assert found["slides_used"] == ["e", "f"]
    assert found["power"] is None  # one patient of each
    means = averaged(rows + wrong, "slide")
    assert means[0].predictions["p_tumour"] == pytest.approx((0.7 + 0.45) / 2)


def test_what_the_set_could_show():
    rng = np.random.default_rng(0)
    rows = [row(f"s{i}", TASK.classes[i % 2], float(rng.random())) for i in range(40)]
    found = metrics_of(rows, trained(), {}).to_json()["power"]
    assert (
        found["patients_positive"],
        found["patients_negative"],
        found["alpha"],
        found["power"],
    ) == (
        20,
        20,
        0.05,
        0.8,
    )
    assert 0.7 < found["smallest_auroc"] < 0.8
    assert 0.1 < found["smallest_difference"] < 0.4


@pytest.fixture
def study(tmp_path):
    """Eight slides of four patients, one head of two seeds, each with weights of a last epoch."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        bag_file(tmp_path / "bags" / f"s{i}.h5", f"s{i}", rng.normal(size=(5, DIM)))
        split = "test" if i < 6 else "train"
        label = TASK.classes[i // 2 % 2]
        rows.append(
            {"fold": 0, "slide": f"s{i}", "patient": f"p{i // 2}", "label": label, "split": split}
        )
    (tmp_path / "toy.yaml").write_text("classes: [tumour, normal]\npositive: tumour\n")
    table = [
        {k: r[k] for k in ("slide", "patient", "label")} | {"site": "xy"[i % 2]}
        for i, r in enumerate(rows)
    ]
    write_csv(tmp_path / "toy.csv", table)
    write_csv(tmp_path / "folds.csv", rows)
    for seed in (1, 2):
        torch.manual_seed(seed)
        kept, last = (
            build_head("abmil", RECIPE.options, dim=DIM, classes=2).state_dict() for _ in range(2)
        )
        save_trained(
            tmp_path / f"head{seed}", trained().model_copy(update={"seed": seed}), kept, {}, last
        )
    return tmp_path


def evaluated(study, out):
    where = study / "bags", study / "folds.csv", study / out
    return evaluate(
        str(study / "toy.yaml"),
        [study / "head1", study / "head2"],
        *where,
        slides_dir=study,
        threads=1,
    )


def test_the_same_study_gives_the_same_bytes(study):
    first = evaluated(study, "one")
    evaluated(study, "two")
    for name in ("metrics.json", "predictions.csv", "predictions_patients.csv"):
        assert (study / "one" / name).read_bytes() == (study / "two" / name).read_bytes()
    assert json.loads((study / "one" / "metrics.json").read_text()) == first
    assert list(first["subgroups"]["site"]) == ["x", "y"]
    assert first["test_patients"]["n_patients"] == 3


@pytest.mark.slow
def test_the_last_epoch_is_evaluated_too(study):
    first = evaluated(study, "out")
    assert first["last"]["n_slides"] == 6
    assert first["last"]["brier"] != first["test"]["brier"]
    for seed in (1, 2):
        kept = study / f"head{seed}" / "head.safetensors"
        (study / f"head{seed}" / "last.safetensors").write_bytes(kept.read_bytes())
    again = evaluated(study, "out")
    assert again["last"] == again["test"] == first["test"]
    path = (
        study / "head1" / "recipe.json"
    )  # what validation said is of the kept epoch, not of the last
    calibration = {"temperature": 5.0, "threshold": 0.9}
    path.write_text(json.dumps({**json.loads(path.read_text()), "calibration": calibration}))
    calibrated = evaluated(study, "out")
    assert calibrated["last"] == first["test"]
    assert calibrated["test"]["brier"] != first["test"]["brier"]
    (study / "head1" / "last.safetensors").unlink()
    assert evaluated(study, "out")["last"] is None


@pytest.mark.parametrize(
    "place", [pytest.param("write_predictions", marks=pytest.mark.slow), "write_metrics"]
)
def test_old_metrics_never_stand_beside_new_predictions(study, monkeypatch, place):
    evaluated(study, "out")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"mil.io.results.evaluation.{place}", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluated(study, "out")
    assert not (study / "out" / "metrics.json").exists()


def test_predictions_of_slides_and_patients(study):
    evaluated(study, "out")
    slides, patients = (
        read_csv(study / "out" / name) for name in ("predictions.csv", "predictions_patients.csv")
    )
    assert (len(slides), len(patients)) == (16, 8)
    common = [
        "patient",
        "split",
        "label",
        "p_tumour",
        "p_normal",
        "recipe",
        "encoder",
        "seed",
        "fold",
    ]
    assert list(slides[0]) == ["slide", *common, "temperature", "threshold"]
    assert list(patients[0]) == [*common, "temperature", "threshold", "n_slides"]
    mine = [float(r["p_tumour"]) for r in slides if r["patient"] == "p1" and r["seed"] == "2"]
    of_patient = next(r for r in patients if r["patient"] == "p1" and r["seed"] == "2")
    assert float(of_patient["p_tumour"]) == pytest.approx(np.mean(mine), rel=1e-7)
    assert of_patient["n_slides"] == "2"


def test_a_fold_that_is_not_there(study):
    rows = [row | {"fold": 1} for row in read_csv(study / "folds.csv")]
    write_csv(study / "folds.csv", rows)
    with pytest.raises(DatasetError, match="has no fold 0, which abmil was trained on"):
        evaluated(study, "out")
    assert not (study / "out").exists()
