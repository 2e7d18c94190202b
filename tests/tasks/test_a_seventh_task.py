"""A seventh task is two pieces: a file of mil/tasks and its loss. Nothing else knows of it."""

import sys

import pytest
import torch

import mil.tasks
from mil.compare.stage import run as compare
from mil.config import DatasetConfig, Recipe, checked, labels
from mil.errors import ConfigError, DatasetError
from mil.evaluate.rows import EvaluatedSlide
from mil.evaluate.subgroups import by_patient
from mil.evaluate.summary import metrics_of
from mil.evaluate.text import metrics_line
from mil.io.results import read_metrics, write_evaluation
from mil.io.tables import read_dataset
from mil.losses.tasks import OF_TASK, TaskLoss, predictions, target_tensor, task_loss
from mil.split.strata import stratified
from mil.tasks import Task, fit_task, task_of
from mil.trained import Trained

FILE = '''
"""Counts: the label is a whole number of things in a slide, such as mitoses."""

from typing import Literal

import numpy as np

from mil.statistics.continuous import regression
from mil.tasks._labels import quantile_parts
from mil.tasks._of_numbers import OfNumbers
from mil.tasks.base import Headline


class Counts(OfNumbers):
    """Poisson regression; the logit is the logarithm of the expected count."""

    column = "expected"
    kind: Literal["counts"] = "counts"
    main_metric = "mae"
    scales = {"mae": "positive", "rmse": "positive"}
    headlines = (Headline("counts off, mean", ("mae",)),)
    subgroup_metrics = ("mae",)

    @classmethod
    def fitted(cls, dataset, labels, balanced):
        return cls()

    @classmethod
    def unfitted(cls, classes, positive):
        return cls()

    def checked_label(self, label):
        if not label.isdecimal():
            raise ValueError("a whole number is needed, such as 12")
        return label

    def target(self, label):
        return np.array(float(label))

    def strata(self, labels):
        return quantile_parts([float(label) for label in labels], 2)

    def content(self, label):
        return set()

    def predictions(self, logits):
        return np.exp(logits)

    def weighted_metrics(self, targets, predictions, weights):
        metrics = regression(targets, predictions[:, 0], weights)
        return {name: metrics[name] for name in ("mae", "rmse")}


TASK = Counts
'''


def counts_loss(task, logits, targets):
    return torch.nn.functional.poisson_nll_loss(logits[:, 0], targets, reduction="none")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A seventh task, and a dataset whose labels are counts."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "counts.py").write_text(FILE)
    monkeypatch.setattr(mil.tasks, "__path__", [*mil.tasks.__path__, str(tmp_path / "tasks")])
    monkeypatch.setattr(labels, "FOLDERS", (*labels.FOLDERS, tmp_path / "tasks"))
    loss = TaskLoss(counts_loss, lambda task, logits: logits.exp())
    monkeypatch.setitem(OF_TASK, "counts", loss)
    (tmp_path / "d.yaml").write_text("task: counts\n")
    table = "slide,label\n" + "".join(f"s{i},{i}\n" for i in range(12))
    (tmp_path / "d.csv").write_text(table)
    yield tmp_path
    sys.modules.pop("mil.tasks.counts", None)


def test_labels_strata_and_targets(study):
    settings, slides = read_dataset(str(study / "d.yaml"))
    task = task_of(settings)
    assert isinstance(task, Task)
    strata = [slide.label for slide in stratified(slides, task)]
    assert strata == ["0"] * 6 + ["1"] * 6
    assert target_tensor(task, "7").item() == 7.0
    (study / "d.csv").write_text("slide,label\na,3.5\n")
    with pytest.raises(DatasetError, match="a whole number is needed, such as 12"):
        read_dataset(str(study / "d.yaml"))


def test_loss_and_predictions(study):
    task = fit_task(DatasetConfig(task="counts"), ["1", "2"], balanced=False)
    logits = torch.zeros(2, task.outputs, requires_grad=True)
    loss = task_loss(task, logits, torch.stack([target_tensor(task, label) for label in "13"]))
    loss.sum().backward()
    assert logits.grad.flatten().tolist() == [0.0, -2.0]  # expected count less the label
    assert predictions(task, logits).tolist() == [[1.0], [1.0]]


def evaluated(study, name, error):
    task = fit_task(DatasetConfig(task="counts"), ["1", "2"], balanced=False)
    trained = Trained(
        recipe_name=name,
        recipe=Recipe(name="abmil", options={}, losses={"cross_entropy": 1}),
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=4,
        task=task,
        dataset="d",
        seed=1,
        fold=0,
        epoch=1,
    )
    assert checked(Trained, trained.model_dump(mode="json"), "recipe.json") == trained
    rows = [
        EvaluatedSlide(
            slide=f"s{i}",
            patient=f"p{i}",
            split="test",
            label=str(i),
            predictions={"expected": i + error * (-1) ** i},
            recipe=name,
            encoder="tiny",
            seed=1,
            fold=0,
        )
        for i in range(12)
    ]
    metrics = metrics_of(rows, trained, {"site": {f"s{i}": "xy"[i % 2] for i in range(12)}})
    write_evaluation(study / name, metrics, rows, by_patient(rows))
    return study / name


def test_metrics_headline_and_comparison(study):
    folders = [evaluated(study, "near", 0.5), evaluated(study, "far", 2.0)]
    metrics = read_metrics(folders[0] / "metrics.json")
    assert metrics.test.metrics["mae"].value == pytest.approx(0.5)
    low, high = metrics.test.metrics["mae"].ci95
    assert low <= 0.5 <= high
    assert list(metrics.subgroups["site"]["x"].metrics) == ["mae"]
    assert metrics_line(metrics).startswith("evaluate near on tiny: test counts off, mean 0.500")
    comparison = compare(folders, study / "compare")
    assert comparison.metrics == ["mae", "rmse"]
    assert comparison.tests.pairs[0].difference == pytest.approx(-1.5)


def test_without_its_file_there_is_no_such_task():
    with pytest.raises(ConfigError, match=r"task: Input should be .*, not 'counts'"):
        checked(DatasetConfig, {"task": "counts"}, "d.yaml")
