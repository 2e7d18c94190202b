"""Classification: losses by hand, class weights in a batch of one, and refused settings."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight

from mil.config import DatasetConfig
from mil.losses.tasks import predictions, target_tensor, task_loss
from mil.tasks import CLASSES, Classification, Task, fit_task

DATASET = DatasetConfig(classes=["normal", "benign", "tumour"], positive="benign")
LABELS = ["normal"] * 6 + ["benign"] * 3 + ["tumour"]


def test_the_contract():
    task = fit_task(DATASET, LABELS, balanced=False)
    assert isinstance(task, Task)
    assert (task.kind, task.outputs, task.positive, task.weights) == (
        "classification",
        3,
        "benign",
        None,
    )
    assert (task.columns, task.column_of_interest, task.attended) == (
        ["p_normal", "p_benign", "p_tumour"],
        "p_benign",
        1,
    )
    assert [int(target_tensor(task, label)) for label in DATASET.classes] == [0, 1, 2]
    assert Classification.model_validate(task.model_dump(mode="json")) == task


def test_loss_and_answers_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(4.0)]], dtype=torch.float64)
    assert task_loss(CLASSES, logits, torch.tensor([0, 0])).tolist() == pytest.approx(
        [math.log(4 / 3), math.log(5)]
    )
    assert predictions(CLASSES, logits).tolist() == [
        pytest.approx([0.75, 0.25]),
        pytest.approx([0.2, 0.8]),
    ]


def test_balanced_weights_are_those_of_scikit_learn():
    task = fit_task(DATASET, LABELS, balanced=True)
    want = compute_class_weight("balanced", classes=np.array(DATASET.classes), y=LABELS)
    np.testing.assert_allclose(task.weights, want)
    assert fit_task(DATASET, ["normal", "tumour", "tumour"], balanced=True).weights == [
        1.5,
        1.0,
        0.75,
    ]


def test_a_weight_counts_in_a_batch_of_one():
    task = Classification(classes=["a", "b"], positive="b", weights=[0.5, 2.0])
    logits = torch.zeros(2, 2)
    targets = torch.tensor([0, 1])
    each = [task_loss(task, logits[i : i + 1], targets[i : i + 1]).item() for i in range(2)]
    assert each == pytest.approx([0.5 * math.log(2), 2 * math.log(2)])
    assert task_loss(task, logits, targets).tolist() == pytest.approx(each)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positive": "c"}, "positive is 'c', which is none of the classes"),
        ({"positive": "a", "weights": [1.0]}, "1 weights for 2 classes"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Classification(classes=["a", "b"], **settings)
