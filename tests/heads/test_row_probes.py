"""Probes of a slide's vector: their fits are those of scikit-learn and lifelines."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional

from mil.bags import join
from mil.heads import Division, FitProblem, build_head
from mil.heads._at_once import fit_linear, standardisation
from mil.heads.knn import vote
from mil.losses.tasks import task_loss
from mil.tasks import SurvivalCox

CROSS_ENTROPY = partial(functional.cross_entropy, reduction="none")


def rows(bags=40, width=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(bags, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 3])
def test_fits_are_the_logistic_regressions_of_scikit_learn(classes):
    x = rows()
    y = (x[:, 0] + 0.5 * rows(width=1, seed=1)[:, 0]).argsort().argsort() * classes // len(x)
    strengths = (1e-3, 0.1)
    fits = fit_linear(x, y, CROSS_ENTROPY, classes, strengths)
    for strength, fit in zip(strengths, fits, strict=True):
        # Of two classes it fits one row of weights, the difference of ours.
        c = 2 * strength if classes == 2 else strength
        oracle = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
        expected = oracle.predict_proba(x.numpy())
        np.testing.assert_allclose(fit.logits(x).softmax(1), expected, atol=1e-5)


def test_fits_are_the_ridge_regression_of_scikit_learn():
    x = rows()
    y = x[:, 0] * 2 + 1

    def loss(logits, targets):
        return (logits[:, 0] - targets).square()

    (fit,) = fit_linear(x, y, loss, 1, [0.05])
    oracle = Ridge(alpha=10.0).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(fit.weight[0], oracle.coef_, atol=1e-5)
    np.testing.assert_allclose(fit.bias, oracle.intercept_, atol=1e-5)


@pytest.mark.slow  # lifelines takes seconds to import
def test_fits_are_the_cox_regression_of_lifelines():
    import pandas
    from lifelines import CoxPHFitter

    x = rows(width=4)
    # It standardises features, so that its penalty is on the weights of these.
    x = (x - x.mean(0)) / x.std(0)
    time = torch.exp(-x[:, 0] + rows(width=1, seed=1)[:, 0])
    event = (rows(width=1, seed=2)[:, 0] > -0.5).double()
    loss = partial(task_loss, SurvivalCox())
    (fit,) = fit_linear(x, torch.stack([time, event], 1), loss, 1, [0.5])
    frame = pandas.DataFrame(x.numpy(), columns=list("abcd")).assign(
        time=time.numpy(), event=event.numpy()
    )
    # Its penalty is beside the mean over slides.
    oracle = CoxPHFitter(penalizer=1 / (0.5 * len(x))).fit(frame, "time", "event")
    np.testing.assert_allclose(fit.weight[0], oracle.params_, atol=1e-5)


def test_a_constant_feature_counts_for_nothing():
    x = torch.stack([torch.full((5,), 0.1, dtype=torch.float64), rows(5, 1)[:, 0]], 1)
    mean, deviation = standardisation(x)
    assert deviation[0] == 1
    assert ((x - mean) / deviation)[:, 0].abs().max() < 1e-12


def problem(y, folds=4):
    numbers = range(len(y))
    divisions = [
        Division(
            [n for n in numbers if n % folds != part], [n for n in numbers if n % folds == part]
        )
        for part in range(folds)
    ]
    return FitProblem(y, CROSS_ENTROPY, divisions)


def test_c_is_the_one_of_least_loss_on_bags_left_out(monkeypatch):
    strengths = (1e-4, 1e-2, 1.0)
    monkeypatch.setattr("mil.heads._row_probe.STRENGTHS", strengths)
    x = rows(48, 30)
    y = (x[:, 0] > 0).long()
    head = build_head("linear_probe", {}, dim=30, classes=2)
    line = head.fit_rows(x, problem(y))
    losses = {}
    for strength in strengths:
        total = 0.0
        for fit, left_out in problem(y).divisions:
            scale = x[fit].std(0, correction=0)
            inputs = ((x - x[fit].mean(0)) / scale).numpy()
            oracle = LogisticRegression(C=2 * strength, tol=1e-8, max_iter=10_000)
            oracle.fit(inputs[fit], y[fit].numpy())
            p = oracle.predict_proba(inputs[left_out])
            total -= np.log(p[np.arange(len(p)), y[left_out].numpy()]).sum()
        losses[strength] = total
    best = min(losses, key=losses.__getitem__)
    assert line.startswith(f"C {best:g}, of least loss ({losses[best] / 48:.4f}) over 4")
    # A recipe's own C is taken as it is.
    assert "as the recipe says" in build_head(
        "linear_probe", {"c": 0.5}, dim=30, classes=2
    ).fit_rows(x, problem(y))


@pytest.mark.parametrize("vector", ["mean", "mean_std"])
def test_a_linear_probe_sees_the_slide_vector_alone(vector):
    bags = [torch.randn(n, 5) * 3 + 40 for n in (4, 1, 7, 3)]
    joined = join(bags)
    head = build_head("linear_probe", {"vector": vector}, dim=5, classes=2).eval()
    expected = torch.stack([bag.double().mean(0) for bag in bags])
    if vector == "mean_std":
        deviation = torch.stack([bag.double().std(0, correction=0) for bag in bags])
        expected = torch.cat([expected, deviation.clamp_min(1e-6)], 1)
    torch.testing.assert_close(head.rows(joined).double(), expected, rtol=1e-6, atol=1e-6)
    head.fit_rows(expected, FitProblem(torch.tensor([0, 1, 0, 1]), CROSS_ENTROPY, []))
    standard = (expected - expected.mean(0)) / expected.std(0, correction=0)
    logits = head.classify(standard.float())
    torch.testing.assert_close(head(joined).logits, logits, rtol=1e-4, atol=1e-4)


def test_an_abmil_probe_pools_as_the_abmil_that_was_trained():
    bags = join([torch.randn(n, 6) for n in (4, 3)])
    head = build_head("abmil_probe", {"hidden": 4, "attention": 3}, dim=6, classes=2).eval()
    first = head.first_stage().eval()
    head.follow(first, [bags])
    torch.testing.assert_close(head(bags).scores, first(bags).scores)
    torch.testing.assert_close(head.rows(bags), first.pool(bags).rows[:, 0])


def test_neighbours_vote_by_their_cosine_beside_the_prior():
    similarity = torch.tensor([[0.9, 0.8, -1.0]])
    votes = torch.eye(3)
    prior = torch.tensor([0.5, 0.25, 0.25])
    near = np.exp([0.9 / 0.1, 0.8 / 0.1])
    shares = np.array([*near / near.sum(), 0])
    found = vote(similarity, votes, prior, 2, torch.tensor(0.1))
    np.testing.assert_allclose(found[0], (2 * shares + prior.numpy()) / 3, rtol=1e-5)


def test_knn_remembers_the_training_slides_when_it_is_loaded():
    x = rows(20, 6)
    y = (x[:, 0] > 0).long()
    head = build_head("knn", {"neighbours": 1}, dim=6, classes=2).eval()
    head.fit_rows(x, problem(y))
    bags = join([row[None].float() for row in x])
    assert (head(bags).logits.argmax(1) == y).all()
    loaded = build_head("knn", {"neighbours": 1}, dim=6, classes=2).eval()
    loaded.load_state_dict(head.state_dict())
    torch.testing.assert_close(loaded(bags).logits, head(bags).logits)
    with pytest.raises(RuntimeError, match="size mismatch for memory"):
        build_head("knn", {}, dim=5, classes=2).load_state_dict(head.state_dict())
