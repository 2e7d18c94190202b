"""DeLong's and Obuchowski's covariance by definition; the test against permutations."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mil.statistics.delong import delong, paired


def kernel(positive, scores):
    """1, one half at a tie, or 0, of each pair; [positives, negatives]."""
    above = scores[positive == 1][:, None]
    below = scores[positive == 0][None]
    return (above > below) + 0.5 * (above == below)


def two_heads(n, rng, ties=True):
    positive = (np.arange(n) % 3 == 0).astype(int)
    common = rng.normal(size=n)
    scores = np.stack([common + rng.normal(size=n) + gain * positive for gain in (1.5, 0.7)])
    return positive, np.round(scores, 1) if ties else scores


def test_equal_to_the_definition_with_ties():
    positive, scores = two_heads(60, np.random.default_rng(0))
    pairs = [kernel(positive, row) for row in scores]
    of_positives, of_negatives = (np.stack([p.mean(axis) for p in pairs]) for axis in (1, 0))
    want = np.cov(of_positives) / positive.sum() + np.cov(of_negatives) / (1 - positive).sum()
    found = delong(positive, scores)
    np.testing.assert_allclose(found.auroc, [roc_auc_score(positive, row) for row in scores])
    np.testing.assert_allclose(found.covariance, want, rtol=1e-10)
    assert (found.positives, found.negatives) == (20, 40)


def test_slides_of_one_patient():
    """Obuchowski's sums over patients, written out."""
    rng = np.random.default_rng(1)
    positive, scores = two_heads(60, rng)
    patients = [f"p{i}" for i in rng.integers(0, 25, 60)]  # some have positive and negative slides
    pairs = [kernel(positive, row) for row in scores]
    names = sorted(set(patients))
    m = int(positive.sum())
    n = int((1 - positive).sum())
    x = np.zeros((2, len(names)))
    y = np.zeros((2, len(names)))
    ours, others = [np.array(patients)[positive == side] for side in (1, 0)]
    for head, pair in enumerate(pairs):
        for i, name in enumerate(names):
            x[head, i] = sum(pair[j].mean() - pair.mean() for j in np.flatnonzero(ours == name))
            y[head, i] = sum(
                pair[:, j].mean() - pair.mean() for j in np.flatnonzero(others == name)
            )
    many = len(set(ours))
    few = len(set(others))
    all_of_them = len(names)
    want = (
        many / (many - 1) * x @ x.T / m**2
        + few / (few - 1) * y @ y.T / n**2
        + all_of_them / (all_of_them - 1) * (x @ y.T + y @ x.T) / (m * n)
    )
    found = delong(positive, scores, patients)
    np.testing.assert_allclose(found.covariance, want, rtol=1e-10)
    assert (found.positives, found.negatives) == (many, few)


def test_a_slide_twice_in_a_patient_says_nothing_new():
    positive, scores = two_heads(30, np.random.default_rng(2))
    patients = [f"p{i}" for i in range(30)]
    once = delong(positive, scores, patients)
    twice = delong(np.tile(positive, 2), np.tile(scores, 2), patients * 2)
    np.testing.assert_allclose(twice.covariance, once.covariance)
    np.testing.assert_allclose(once.covariance, delong(positive, scores).covariance)


def test_standard_error_is_the_spread_over_samples():
    rng = np.random.default_rng(5)
    found = [delong(*two_heads(90, rng, ties=False)) for _ in range(1000)]
    areas = np.stack([one.auroc for one in found])
    np.testing.assert_allclose(
        np.mean([one.covariance for one in found], 0), np.cov(areas.T), rtol=0.15
    )


def test_test_agrees_with_swapping_the_heads():
    """Under no difference each slide's two scores may be swapped; their scales are alike here."""
    rng = np.random.default_rng(4)
    for gain in (0.0, 0.35, 0.7):
        positive = (np.arange(120) % 2).astype(int)
        common = rng.normal(size=120)
        scores = np.stack(
            [
                common + rng.normal(size=120) + positive,
                common + rng.normal(size=120) + (1 - gain) * positive,
            ]
        )
        found = paired(delong(positive, scores), 0, 1)
        swapped = []
        for _ in range(400):
            swap = rng.random(120) < 0.5
            one = np.where(swap, scores[1], scores[0])
            other = np.where(swap, scores[0], scores[1])
            swapped.append(delong(positive, np.stack([one, other])).auroc @ [1, -1])
        permutation = (np.abs(swapped) >= abs(found.difference)).mean()
        assert found.p == pytest.approx(permutation, abs=0.06)
        assert found.ci95[0] < found.difference < found.ci95[1]


def test_the_same_head_twice():
    positive, scores = two_heads(30, np.random.default_rng(5))
    found = paired(delong(positive, np.stack([scores[0], scores[0]])), 0, 1)
    assert found == (0.0, 0.0, None, None)


def test_without_an_error_nothing_is_tested():
    """Two heads that rank all correctly, and one with the same score for all.

    DeLong's variance is 0, which is no certainty.
    """
    positive = np.array([0, 0, 1, 1])
    areas = delong(positive, np.array([[1, 2, 3, 4], [1, 2, 8, 9], [5, 5, 5, 5]], dtype=float))
    assert list(areas.auroc) == [1.0, 1.0, 0.5]
    assert paired(areas, 0, 1) == (0.0, 0.0, None, None)
    assert paired(areas, 0, 2) == (0.5, 0.0, None, None)


def test_too_few():
    with pytest.raises(ValueError, match="two patients with a positive slide"):
        delong(np.array([1, 0, 0]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="two patients"):
        delong(np.array([1, 1, 0, 0]), np.zeros((1, 4)), ["a", "a", "b", "c"])
