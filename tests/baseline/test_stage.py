"""A baseline fitted, scored and evaluated in one go, for every task."""

import json

import pytest
from typer.testing import CliRunner

from mil.baseline.stage import Inputs, run
from mil.cli import app
from mil.config.labels import TASKS
from mil.errors import ConfigError
from mil.io.tables import read_csv
from mil.train.runs import HeadRun
from tests.messages import one_line
from tests.scored import evaluate
from tests.tasks.planted import write_study


def fit(study, recipe="linear_probe", folder="fitted"):
    lines = []
    metrics = run(
        recipe,
        Inputs(str(study / "toy.yaml"), study / "bags", study / "folds.csv"),
        [HeadRun(1, 0, study / folder)],
        study / "scores",
        study / "evaluated",
        threads=1,
        cache_mb=100,
        report=lines.append,
    )
    return metrics, lines


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_baseline_of_every_task_is_what_the_three_stages_give(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("mil.heads._row_probe.STRENGTHS", (1e-2, 1.0))
    study = write_study(tmp_path, kind)
    metrics, lines = fit(study)
    assert lines[0] == "linear_probe: 1 fitted"
    written = json.loads((study / "evaluated" / "metrics.json").read_text())
    assert (written["recipe"], written["task"]) == ("linear_probe", kind)
    by_hand = evaluate(
        str(study / "toy.yaml"),
        [study / "fitted"],
        study / "bags",
        study / "folds.csv",
        study / "by_hand",
        slides_dir=study,
    )
    assert by_hand["test"] == written["test"] == metrics.to_json()["test"]
    predicted = [
        read_csv(study / folder / "predictions.csv") for folder in ("evaluated", "by_hand")
    ]
    assert predicted[0] == predicted[1]
    # Its evidence is not computed.
    assert "evidence" in json.dumps(by_hand)
    assert not metrics.maps


def test_a_head_that_is_trained_is_no_baseline(tmp_path):
    with one_line(ConfigError, match="abmil has head abmil, which is trained; name it in `head`"):
        fit(tmp_path, "abmil")


def test_a_fault_says_how_to_run_without(tmp_path):
    words = "baseline --dataset nowhere --bags b --folds f --heads h --scores s --out o"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 1
    assert str(done.exception).endswith("(baseline=none runs a study without its baseline)")
