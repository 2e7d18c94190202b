"""Every task: the contract, losses and answers by hand, and what cannot be learnt."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from mil.config import DatasetConfig
from mil.config.labels import TASKS
from mil.errors import ConfigError, DatasetError
from mil.losses.tasks import predictions, target_tensor, task_loss
from mil.tasks import (
    AnyTask,
    Multilabel,
    Ordinal,
    Regression,
    SurvivalCox,
    SurvivalDiscrete,
    Task,
    fit_task,
    unfitted_task,
)
from tests.messages import one_line

GRADES = ["low", "mid", "high"]
LABELS = {
    "classification": ["low", "mid", "high", "low"],
    "multilabel": ["low;mid", "", "high", "low"],
    "ordinal": ["low", "mid", "high", "low"],
    "regression": ["1", "2.5", "-4", "1e2"],
    "survival_discrete": ["1", "2+", "0.5", "8"],
    "survival_cox": ["1", "2+", "0.5", "8"],
}


def dataset(kind, **settings):
    return DatasetConfig(
        task=kind, classes=GRADES if "surv" not in kind and kind != "regression" else [], **settings
    )


def log_sigmoid(z):
    return -math.log1p(math.exp(-z))


@pytest.mark.parametrize("kind", TASKS)
def test_the_contract(kind):
    task = fit_task(dataset(kind), LABELS[kind], balanced=False)
    assert isinstance(task, Task)
    assert task.kind == kind
    assert TypeAdapter(AnyTask).validate_python(task.model_dump(mode="json")) == task
    targets = torch.stack([target_tensor(task, label) for label in LABELS[kind]])
    logits = torch.randn(4, task.outputs, dtype=torch.float64, requires_grad=True)
    loss = task_loss(task, logits, targets)
    answers = predictions(task, logits)
    assert loss.shape == (4,)
    assert loss.dtype == torch.float64
    assert (loss >= 0).all()
    assert answers.shape == (4, len(task.columns))
    assert task.column_of_interest in task.columns
    assert (
        task.column_of_interest
        == unfitted_task(kind, task.classes, task.positive).column_of_interest
    )
    assert task.attended is None or 0 <= task.attended < task.outputs
    loss.sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).any()


@pytest.mark.parametrize("kind", TASKS)
def test_a_step_down_the_loss_lowers_it_and_large_logits_are_numbers(kind):
    torch.manual_seed(0)
    task = fit_task(dataset(kind), LABELS[kind], balanced=False)
    targets = torch.stack([target_tensor(task, label) for label in LABELS[kind]])
    logits = torch.randn(4, task.outputs, requires_grad=True)
    before = task_loss(task, logits, targets).sum()
    before.backward()
    assert task_loss(task, logits.detach() - 0.05 * logits.grad, targets).sum() < before
    for size in (-200.0, 200.0):
        far = torch.full((4, task.outputs), size)
        assert task_loss(task, far, targets).isfinite().all()
        assert predictions(task, far).isfinite().all()


@pytest.mark.parametrize("kind", TASKS)
def test_predictions_without_torch_are_the_same(kind):
    task = fit_task(dataset(kind), LABELS[kind], balanced=False)
    logits = 3 * torch.randn(5, task.outputs, dtype=torch.float64)
    want = predictions(task, logits).numpy()
    np.testing.assert_allclose(task.predictions(logits.numpy()), want, rtol=1e-12)


def test_multilabel_by_hand():
    task = Multilabel(classes=["a", "b"], positive="b")
    assert target_tensor(task, "").tolist() == [0, 0]
    assert target_tensor(task, " b ; a ").tolist() == [1, 1]
    assert (task.columns, task.column_of_interest, task.attended) == (["p_a", "p_b"], "p_b", 1)
    logits = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    assert predictions(task, logits).tolist() == [pytest.approx([0.5, 0.75])]
    want = (math.log(2) + math.log(4)) / 2  # mean over classes of -log(1/2), -log(1 - 3/4)
    assert task_loss(task, logits, target_tensor(task, "a")[None]).item() == pytest.approx(want)


def test_multilabel_balanced():
    task = fit_task(dataset("multilabel"), ["low", "low", "low", "mid"], balanced=True)
    assert task.weights == [(2.0, pytest.approx(2 / 3)), (pytest.approx(2 / 3), 2.0), (1.0, 1.0)]
    weights = task
    plain = task.model_copy(update={"weights": None})
    logits = torch.zeros(1, 3)
    target = target_tensor(task, "mid")[None]
    assert task_loss(plain, logits, target).item() == pytest.approx(math.log(2))
    assert task_loss(weights, logits, target).item() == pytest.approx(math.log(2) * (2 + 2 + 1) / 3)


def test_ordinal_by_hand():
    task = Ordinal(classes=GRADES, positive="high")
    logits = torch.tensor(
        [[math.log(3), 0.0]], dtype=torch.float64
    )  # above low: 3/4; of those above mid: 1/2
    assert task.outputs == 2
    assert predictions(task, logits).tolist() == [pytest.approx([1 / 4, 3 / 8, 3 / 8])]
    losses = [task_loss(task, logits, target_tensor(task, name)[None]).item() for name in GRADES]
    assert losses == pytest.approx([math.log(4), math.log(8 / 3), math.log(8 / 3)])
    assert [Ordinal(classes=GRADES, positive=name).attended for name in GRADES] == [0, 1, 1]


def test_ordinal_is_the_sum_of_the_conditional_cross_entropies():
    """CORN: logit k is trained on bags not below class k, by whether they are above it."""
    torch.manual_seed(1)
    task = Ordinal(classes=list("abcde"), positive="e")
    logits = torch.randn(6, 4, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 3, 4, 2])
    want = [
        sum(-log_sigmoid(float(logits[i, k]) * (1 if y > k else -1)) for k in range(4) if y >= k)
        for i, y in enumerate(targets.tolist())
    ]
    assert task_loss(task, logits, targets).tolist() == pytest.approx(want)
    p = predictions(task, logits)
    torch.testing.assert_close(p.sum(1), torch.ones(6, dtype=torch.float64))
    above = 1 - p.cumsum(1)
    assert (above[:, :-1] >= above[:, 1:]).all()


def test_regression_is_in_the_labels_units():
    task = fit_task(dataset("regression"), ["10", "20", "30", "40"], balanced=False)
    assert task.mean == 25
    assert task.deviation == pytest.approx(np.std([10, 20, 30, 40]))
    logits = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert predictions(task, logits).flatten().tolist() == pytest.approx([25, 25 + task.deviation])
    loss = task_loss(
        task, logits, torch.stack([target_tensor(task, "25"), target_tensor(task, "10")])
    )
    assert loss.tolist() == pytest.approx([0, (1 + 15 / task.deviation) ** 2])


def test_discrete_survival_by_hand():
    task = SurvivalDiscrete(ends=[10.0, 20.0, 40.0])
    logits = torch.tensor(
        [[math.log(1 / 4), 0.0, math.log(3)]], dtype=torch.float64
    )  # hazards 1/5, 1/2, 3/4
    assert task.columns == ["risk", "survival_1", "survival_2", "survival_3"]
    survival = [0.8, 0.4, 0.1]
    assert predictions(task, logits).tolist() == [pytest.approx([1 - np.mean(survival), *survival])]
    likelihood = {
        "0": 0.2,
        "10": 0.2,
        "10.5": 0.8 * 0.5,
        "20": 0.8 * 0.5,
        "33": 0.8 * 0.5 * 0.75,
        "41": 0.1,
        "0+": 1.0,
        "4+": 1.0,
        "5+": 0.8,
        "14+": 0.8,
        "15+": 0.4,
        "29+": 0.4,
        "30+": 0.1,
        "99+": 0.1,
    }
    for label, want in likelihood.items():
        assert task_loss(task, logits, target_tensor(task, label)[None]).item() == pytest.approx(
            -math.log(want), abs=1e-12
        ), label


def test_the_intervals_end_at_quantiles_of_the_event_times():
    labels = [str(time) for time in range(1, 10)] + ["100+", "0.1+"]
    task = fit_task(dataset("survival_discrete"), labels, balanced=False)
    assert task.ends == pytest.approx(np.quantile(range(1, 10), [0.25, 0.5, 0.75, 1]))
    assert fit_task(dataset("survival_discrete", ends=[12, 24]), labels, balanced=False).ends == [
        12,
        24,
    ]
    assert fit_task(dataset("survival_discrete"), ["5", "5", "5", "8+"], balanced=False).ends == [5]
    assert fit_task(dataset("survival_discrete", intervals=1), labels, balanced=False).ends == [9]


def breslow(log_risk, time, event):
    return [
        event[i]
        * (
            math.log(sum(math.exp(log_risk[j]) for j in range(len(time)) if time[j] >= time[i]))
            - log_risk[i]
        )
        for i in range(len(time))
    ]


def test_cox_is_breslows_partial_likelihood_with_ties():
    draw = np.random.default_rng(0)
    time = draw.integers(1, 6, 30).astype(float)
    event = draw.integers(0, 2, 30).astype(float)
    log_risk = draw.normal(size=30)
    targets = torch.tensor(np.stack([time, event], 1), dtype=torch.float32)
    loss = task_loss(SurvivalCox(), torch.tensor(log_risk)[:, None], targets)
    assert loss.tolist() == pytest.approx(breslow(log_risk, time, event))
    assert loss[targets[:, 1] == 0].eq(0).all()


def test_cox_finds_the_coefficient_that_lifelines_finds():
    import pandas
    from lifelines import CoxPHFitter

    draw = np.random.default_rng(1)
    x = draw.normal(size=200)
    time = draw.exponential(np.exp(-0.7 * x))
    event = (time < 2).astype(float)
    frame = pandas.DataFrame({"x": x, "t": np.minimum(time, 2), "e": event})
    theirs = CoxPHFitter().fit(frame, "t", "e").params_["x"]
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    targets = torch.tensor(np.stack([frame.t, frame.e], 1), dtype=torch.float64)
    optimiser = torch.optim.LBFGS(
        [slope], max_iter=50, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = task_loss(SurvivalCox(), slope * torch.tensor(x)[:, None], targets).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert slope.item() == pytest.approx(theirs, rel=1e-4)


def test_cox_of_one_bag_says_nothing():
    logits = torch.tensor([[2.0]], requires_grad=True)
    loss = task_loss(SurvivalCox(), logits, torch.tensor([[3.0, 1.0]]))
    loss.sum().backward()
    assert loss.item() == logits.grad.item() == 0.0
    assert SurvivalCox().smallest_batch == 2


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("regression", ["2", "2.0"], "the labels of the 2 training slides do not differ"),
        ("survival_discrete", ["2+", "3+"], "all 2 training slides are censored"),
        ("survival_cox", ["2+", "3+"], "all 2 training slides are censored"),
        ("survival_discrete", ["0", "3+"], "all events of the training slides come at time 0"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(kind, labels, message):
    with one_line(DatasetError, match=message):
        fit_task(dataset(kind), labels, balanced=False)


@pytest.mark.parametrize("kind", ["regression", "survival_discrete", "survival_cox"])
def test_there_are_no_classes_to_balance(kind):
    with pytest.raises(
        ConfigError, match=f"balanced needs classes, which the task {kind} does not have"
    ):
        fit_task(dataset(kind), LABELS[kind], balanced=True)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (Ordinal, {"classes": ["a"], "positive": "a"}),
        (Ordinal, {"classes": ["a", "b"], "positive": "c"}),
        (Multilabel, {"classes": ["a", "b"], "positive": "c"}),
        (Multilabel, {"classes": ["a", "b"], "positive": "a", "weights": [(1.0, 1.0)]}),
        (Regression, {"mean": 0.0, "deviation": 0.0}),
        (Regression, {"mean": float("nan"), "deviation": 1.0}),
        (SurvivalDiscrete, {"ends": [2.0, 2.0]}),
        (SurvivalDiscrete, {"ends": [0.0, 2.0]}),
        (SurvivalDiscrete, {"ends": []}),
    ],
)
def test_a_recipe_json_that_cannot_be_is_refused(task, settings):
    with pytest.raises(ValidationError):
        task(**settings)
