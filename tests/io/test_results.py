"""Result files: what is read is what was written, to the byte, and what is none is one line."""

import json
import re

import numpy as np
import pytest

from mil.compare.stage import run as compare
from mil.errors import FormatError
from mil.io.results import (
    Metric,
    Metrics,
    Prediction,
    SetMetrics,
    read_comparison,
    read_evaluation,
    read_metrics,
    read_predictions,
    using_results,
    write_comparison,
    write_metrics,
    write_predictions,
)
from tests.compare.heads import THREE, evaluated
from tests.messages import one_line


@pytest.fixture(params=["two classes", "three classes", "folds and seeds"])
def folder(request, tmp_path):
    settings = {
        "two classes": {"per_patient": 2},
        "three classes": {"classes": THREE},
        "folds and seeds": {"seeds": 2, "folds": 3},
    }
    return evaluated(tmp_path, "abmil", 1.0, slides=30, **settings[request.param])


@pytest.mark.parametrize(
    ("name", "read", "write"),
    [
        ("metrics.json", read_metrics, write_metrics),
        ("predictions.csv", read_predictions, write_predictions),
        ("predictions_patients.csv", read_predictions, write_predictions),
    ],
)
def test_an_evaluation_read_and_written_has_the_same_bytes(folder, name, read, write):
    write(folder / "again", read(folder / name))
    assert (folder / "again").read_bytes() == (folder / name).read_bytes()


def test_a_comparison_read_and_written_has_the_same_bytes(tmp_path):
    heads = [evaluated(tmp_path, name, 1.0, slides=30) for name in ("abmil", "acmil")]
    comparison = compare(heads, tmp_path / "out")
    path = tmp_path / "out" / "comparison.json"
    assert read_comparison(path) == comparison
    write_comparison(tmp_path / "again.json", read_comparison(path))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


METRICS = """\
{
  "recipe": "abmil",
  "encoder": "tiny",
  "dataset": "d",
  "task": "classification",
  "classes": [
    "a",
    "b"
  ],
  "positive": "b",
  "predicted_by": "one head per slide",
  "test": {
    "auroc": {
      "value": 1.0,
      "ci95": [
        0.5,
        1.0
      ]
    },
    "ece": {
      "value": 0.2,
      "ci95": null,
      "if_calibrated": [
        0.1,
        0.4
      ]
    },
    "n_slides": 2,
    "n_patients": 2,
    "confusion": {
      "classes": [
        "a",
        "b"
      ],
      "table": [
        [
          1,
          0
        ],
        [
          0,
          1
        ]
      ]
    }
  },
  "fusion": "late",
  "test_patients": {
    "note": "1 of 2 patients have slides of different labels (p)",
    "n_patients": 2,
    "n_slides": 2
  },
  "last": null,
  "runs": [
    {
      "seed": 1,
      "fold": 0,
      "held_out": "Centre",
      "auroc": 1.0,
      "n_slides": 2,
      "tile_auroc": null,
      "hottest_tile_rate": 0.75,
      "attention_entropy_share": 0.5
    }
  ],
  "over_runs": {
    "auroc": {
      "mean": 1.0,
      "sd": null
    }
  },
  "calibration": null,
  "subgroups": {
    "site": {
      "(empty)": {
        "auroc": {
          "value": null,
          "ci95": null
        },
        "n_slides": 1,
        "n_patients": 1
      }
    }
  },
  "power": null,
  "localisation": {
    "tile_auroc_mean": 0.75,
    "tile_auroc_ci95": [
      0.5,
      0.875
    ],
    "tile_auroc_by_chance": 0.5,
    "tile_auroc_min": 0.75,
    "n_slides": 1,
    "per_slide": {
      "s": 0.75
    },
    "hottest_tile": {
      "rate": {
        "value": 1.0,
        "ci95": null
      },
      "by_chance": 0.25,
      "per_slide": {
        "s": {
          "hit": 1.0,
          "by_chance": 0.25
        }
      }
    },
    "note": "",
    "finding": ""
  },
  "annotations": [
    "No tile AUROC."
  ],
  "maps": {},
  "lesions": null,
  "evidence_checks": [],
  "attention_entropy_share": {
    "s": 0.5
  },
  "selection": {
    "runs": [
      {
        "seed": 1,
        "fold": 0,
        "n_slides": 2,
        "reduction": 0.0,
        "kl": null
      }
    ],
    "over_runs": {},
    "jaccard_over_seeds": {
      "mean": 0.5,
      "n_pairs": 1
    },
    "per_slide": {
      "s": {
        "tile_recall": 1.0
      }
    }
  },
  "branches": null,
  "slides_used": [
    "s"
  ]
}
"""


def test_metrics_as_they_have_always_been_written(tmp_path):
    (tmp_path / "metrics.json").write_text(METRICS)
    metrics = read_metrics(tmp_path / "metrics.json")
    assert metrics.test.metrics["ece"] == Metric(value=0.2, if_calibrated=(0.1, 0.4))
    assert metrics.test_patients.note.startswith("1 of 2 patients")
    assert metrics.runs[0].metrics == {"auroc": 1.0}
    assert metrics.runs[0].held_out == "Centre"
    write_metrics(tmp_path / "again.json", metrics)
    assert (tmp_path / "again.json").read_text() == METRICS


def test_metrics_of_before_the_ensembles_attention_are_read(tmp_path):
    raw = json.loads(METRICS)
    later = ("predicted_by", "annotations", "maps", "lesions", "attention_entropy_share")
    for name in (*later, "evidence_checks"):
        del raw[name]
    del raw["runs"][0]["hottest_tile_rate"]
    raw["localisation"] = {
        "tile_auroc_mean": 0.75,
        "tile_auroc_min": 0.5,
        "n_slides": 3,
        "per_slide": {"s": 0.75},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(raw))
    metrics = read_metrics(tmp_path / "metrics.json")
    assert (metrics.predicted_by, metrics.attention_entropy_share) == ("", {})
    assert metrics.localisation.text == "tile AUROC 0.750 (0.5 is chance) on 3 slides"


def test_a_model_cannot_be_changed():
    metrics = Metrics.model_validate(json.loads(METRICS))
    with pytest.raises(ValueError, match="frozen"):
        metrics.recipe = "another"
    with pytest.raises(ValueError, match="frozen"):
        metrics.test.n_slides = 3


def prediction(**changes):
    values = {"p_a": float(np.float32(1 / 3)), "p_b": 1e-30}
    settings = {"slide": "s", "patient": "p", "split": "test", "label": "a", "predictions": values}
    settings |= {"recipe": "r", "encoder": "e", "seed": 1, "fold": 0}
    return Prediction(**settings | changes)


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ({}, "slide,patient,split,label,p_a,p_b,recipe,encoder,seed,fold,temperature,threshold"),
        (
            {"held_out": "x", "threshold": 0.25},
            "slide,patient,split,label,p_a,p_b,recipe,encoder,seed,fold,held_out,temperature,"
            "threshold",
        ),
        (
            {"slide": "", "n_slides": 2},
            "patient,split,label,p_a,p_b,recipe,encoder,seed,fold,temperature,threshold,n_slides",
        ),
    ],
)
def test_a_prediction_in_the_table(tmp_path, changes, header):
    row = prediction(**changes)
    write_predictions(tmp_path / "p.csv", [row])
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == header
    (again,) = read_predictions(tmp_path / "p.csv")
    assert np.float32(again.predictions["p_a"]) == np.float32(row.predictions["p_a"])
    assert again.threshold == row.threshold
    assert (again.held_out, again.n_slides) == (row.held_out, row.n_slides)


def test_results_that_are_none_are_one_line(tmp_path):
    (tmp_path / "metrics.json").write_text(METRICS.replace('"task"', '"tusk"'))
    (tmp_path / "predictions.csv").write_text("slide,label\na,b\n")
    for read, message in (
        (
            lambda: read_evaluation(tmp_path),
            r"no predictions\.csv and metrics\.json .*'task' is mis",
        ),
        (lambda: read_metrics(tmp_path / "metrics.json"), r"\('task' is missing\); run it again"),
        (lambda: read_metrics(tmp_path / "none.json"), "No such file"),
        (lambda: read_predictions(tmp_path / "predictions.csv"), "no column 'recipe'"),
        (lambda: read_comparison(tmp_path / "metrics.json"), r"no comparison\.json of `mil comp"),
    ):
        with one_line(FormatError, match=message):
            read()


def test_a_set_without_slides_has_numbers_only():
    assert SetMetrics(n_slides=0, n_patients=0).model_dump() == {"n_slides": 0, "n_patients": 0}


VALUE = r'"value": [0-9.]+'


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (VALUE, '"value": NaN', "not a finite number"),
        (VALUE, '"value": 1e999', "not a finite number"),
        (VALUE, '"value": "NaN"', "finite number"),
        ('"abmil"', r'"\\ud800"', "surrogates not allowed"),
        ("{", "[" * 100_000, "recursion|parenthesis|nested|delimiter|Expecting|value"),
    ],
)
def test_metrics_that_no_json_may_hold_are_one_line(tmp_path, old, new, fault):
    folder = evaluated(tmp_path, "abmil", 1.0, slides=30)
    text, count = re.subn(old, new, (folder / "metrics.json").read_text(), count=1)
    assert count == 1
    (folder / "metrics.json").write_text(text)
    with one_line(FormatError, match=fault):
        read_metrics(folder / "metrics.json")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lines: [lines[0], lines[1] + ",x"], "more or fewer cells than the header"),
        (lambda lines: [lines[0], lines[1].rpartition(",")[0]], "more or fewer cells"),
        (lambda lines: [lines[0], lines[1].replace("0.", "nan,0.", 1)], "more or fewer|finite"),
        (lambda lines: [lines[0]], "has no rows"),
        (lambda lines: [], "has no rows"),
    ],
)
def test_predictions_that_were_edited_are_one_line(tmp_path, change, fault):
    path = evaluated(tmp_path, "abmil", 1.0, slides=30) / "predictions.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with one_line(FormatError, match=rf"predictions\.csv: .*({fault})"):
        read_predictions(path)


def test_results_that_contradict_each_other_are_one_line_with_the_cause(tmp_path):
    expected = r"a, .*b: cannot be used together \(KeyError: 'x'\)"
    with (
        one_line(FormatError, match=expected) as caught,
        using_results(tmp_path / "a", tmp_path / "b"),
    ):
        {}["x"]
    assert isinstance(caught.value.__cause__, KeyError)
    # What has words of its own keeps them.
    with one_line(FormatError, match="^mine$"), using_results(tmp_path):
        raise FormatError("mine")
