"""Metrics of a baseline are made again by the command that made them."""

import json

import pytest

from mil.why.predictions import _command
from mil.why.study import Study
from tests.studied import row


@pytest.mark.parametrize(
    ("config", "stage"),
    [
        ({"baseline": "linear_probe", "head": ["abmil"]}, "baseline"),
        ({"baseline": "linear_probe", "head": ["linear_probe"]}, "evaluate"),
        ({"baseline": None, "head": 3}, "evaluate"),
        (None, "evaluate"),
    ],
)
def test_only_a_baseline_is_evaluated_as_one(tmp_path, config, stage):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    study = Study(tmp_path, "64px_0.5mpp", "tiny", "linear_probe", "nowhere", tmp_path)
    rows = [row("a", "normal", {"p": 0.5}, seed=seed) for seed in (2, 1, 2)]
    words = _command(study, rows, tmp_path / "scores", "split/folds3.csv")
    assert words[:2] == ["mil", stage]
    if stage == "baseline":
        assert words[4:12] == [
            "--recipe",
            "linear_probe",
            "--seed",
            "1",
            "--seed",
            "2",
            "--fold",
            "0",
        ]
        # The study's own heads and scores are not written over.
        outputs = [words[words.index(name) + 1] for name in ("--heads", "--scores", "--out")]
        assert outputs == ["again/heads/seed{seed}_fold{fold}of3", "again/scores", "again"]
    assert words[-4:-2] == ["--folds", "split/folds3.csv"] or "--slides-dir" in words
