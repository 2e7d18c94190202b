"""Every task is learnt, by heads of several kinds, and what does not go together is one line."""

import json

import numpy as np
import pytest

from mil.config.labels import TASKS
from mil.errors import ConfigError, DatasetError
from mil.io.bags import read_bag
from mil.io.tables import read_csv, write_csv
from mil.losses.tasks import target_tensor
from mil.train.stage import run as train
from mil.trained import apply, load_trained
from tests.messages import one_line
from tests.tasks.planted import TRAIN, VAL, write_study

# Metric of each task and the least value that counts as learnt.
ENOUGH = {
    "classification": ("auroc_macro", 0.9),
    "multilabel": ("auroc_macro", 0.9),
    "ordinal": ("kappa_quadratic", 0.6),
    "regression": ("r2", 0.7),
    "survival_discrete": ("c_index", 0.8),
    "survival_cox": ("c_index", 0.8),
}
BRANCHES = "{cross_entropy: 1, branch_cross_entropy: 1, branch_diversity: 0.1}"
RECIPES = {
    "abmil": "name: abmil\noptions: {hidden: 16, attention: 8}\nlosses: {cross_entropy: 1}\n",
    "acmil": "name: acmil\noptions: {hidden: 16, attention: 8, branches: 2}\n"
    f"losses: {BRANCHES}\n",
    "clam_mb": "name: clam_mb\noptions: {hidden: 16, attention: 8}\nlosses: {cross_entropy: 1}\n",
    "mhim": "name: mhim\noptions: {hidden: 16, momentum: 0.9}\n"
    "losses: {cross_entropy: 1, teacher_consistency: 0.1}\n",
    "graph_select": "name: graph_select\n"
    "options: {hidden: 16, attention: 8, layers: 0, keep_least: 3}\n"
    "losses: {cross_entropy: 1, full_cross_entropy: 0.5}\n",
}
HOW = "train: {epochs: 15, batch_bags: 12, lr: 2.0e-2}\n"


def learnt(study, recipe, how=HOW):
    (study / "mine.yaml").write_text(recipe + how)
    return train(
        str(study / "toy.yaml"),
        study / "bags",
        study / "folds.csv",
        study / "head",
        recipe=str(study / "mine.yaml"),
        fold=0,
        seed=1,
        threads=1,
        device="cpu",
    )


def of_test_slides(study):
    head, trained = load_trained(study / "head")
    rows = [row for row in read_csv(study / "folds.csv") if row["split"] == "test"]
    answers = [
        apply(head, trained, read_bag(study / "bags" / f"{row['slide']}.h5")).predictions
        for row in rows
    ]
    targets = np.stack([target_tensor(trained.task, row["label"]).numpy() for row in rows])
    return trained.task.validation_metrics(targets, np.stack(answers))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind == "survival_cox" else pytest.mark.slow)
        for kind in TASKS
    ],
)
def test_a_task_is_learnt(tmp_path, kind):
    study = write_study(tmp_path, kind)
    trained = learnt(study, RECIPES["abmil"])
    name, enough = ENOUGH[kind]
    assert of_test_slides(study)[name] > enough
    assert load_trained(study / "head")[1] == trained
    valid = json.loads((study / "head" / "history.json").read_text())["valid"]
    assert min(epoch["loss"] for epoch in valid) < 0.8 * valid[0]["loss"]
    assert {name, "score"} <= set(valid[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("survival_cox", "acmil"),
        ("ordinal", "clam_mb"),
        ("survival_discrete", "mhim"),
        ("regression", "graph_select"),
    ],
)
def test_other_heads_learn_it_too(tmp_path, kind, recipe):
    study = write_study(tmp_path, kind)
    learnt(study, RECIPES[recipe])
    name, enough = ENOUGH[kind]
    assert of_test_slides(study)[name] > enough - 0.15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multilabel", "regression", "survival_cox"])
def test_labels_that_know_nothing_teach_nothing(tmp_path, kind):
    study = write_study(tmp_path, kind, shuffled=True)
    learnt(study, RECIPES["abmil"])
    name, enough = ENOUGH[kind]
    assert of_test_slides(study)[name] < enough - 0.1


DSMIL = "name: dsmil\nlosses: {cross_entropy: 1}\n"
DTFD = "name: dtfd\nlosses: {cross_entropy: 1}\n"
CLAM = "name: clam_sb\nlosses: {cross_entropy: 1, instance_cross_entropy: 1}\n"
F1_AUC = "train: {epochs: 1, select: f1_auc}\n"
F1_MICRO_AUC = "train: {epochs: 1, select: f1_micro_auc}\n"
BATCH_OF_ONE = "train: {epochs: 1}\n"
WEIGHTED = "train: {epochs: 1, class_weights: balanced}\n"
SAMPLED = "train: {epochs: 1, sampling: balanced}\n"
NO_CLASSES_TERM = (
    "loss term instance_cross_entropy: needs exactly one class for each slide, which the task multi"
    "label"
)
REFUSED = [
    ("regression", DSMIL, HOW, "head dsmil: compares classes"),
    ("survival_cox", DTFD, HOW, "head dtfd: compares classes"),
    ("multilabel", CLAM, HOW, NO_CLASSES_TERM),
    ("ordinal", RECIPES["abmil"], F1_AUC, "train.select: f1_auc needs classes"),
    ("ordinal", RECIPES["abmil"], F1_MICRO_AUC, "train.select: f1_micro_auc needs classes"),
    ("survival_cox", RECIPES["abmil"], BATCH_OF_ONE, "batch_bags in the recipe to 2 or more"),
    ("regression", RECIPES["abmil"], WEIGHTED, "class_weights: balanced needs"),
    ("survival_discrete", RECIPES["abmil"], SAMPLED, "sampling: balanced needs"),
]


@pytest.mark.parametrize(("kind", "recipe", "how", "message"), REFUSED)
def test_what_does_not_go_together_is_one_line(tmp_path, kind, recipe, how, message):
    study = write_study(tmp_path, kind, count=TRAIN + VAL)
    with one_line(ConfigError, match=message):
        learnt(study, recipe, how)
    assert not (study / "head").exists()


def test_survival_without_an_event_cannot_be_learnt(tmp_path):
    study = write_study(tmp_path, "survival_cox")
    rows = read_csv(study / "folds.csv")
    write_csv(
        study / "folds.csv",
        [{**row, "label": row["label"].removesuffix("+") + "+"} for row in rows],
    )
    with pytest.raises(DatasetError, match="all 48 training slides are censored"):
        learnt(study, RECIPES["abmil"])


def test_classes_weigh_the_same(tmp_path):
    study = write_study(tmp_path, "ordinal")
    trained = learnt(study, RECIPES["abmil"], "train: {epochs: 1, class_weights: balanced}\n")
    labels = [row["label"] for row in read_csv(study / "folds.csv") if row["split"] == "train"]
    counts = np.array([labels.count(name) for name in trained.classes])
    np.testing.assert_allclose(trained.task.weights, len(labels) / 3 / counts)
