"""Learning rate and annealed loss weights."""

import pytest

from mil.config import LossWeight, TrainConfig
from mil.train.optim import learning_rate, loss_weight


@pytest.mark.parametrize(
    ("epoch", "want"), [(0.0, 1e-4), (25.0, 5e-5), (12.5, 0.5e-4 * (1 + 2**-0.5)), (50.0, 0.0)]
)
def test_learning_rate_is_half_a_cosine_over_fractional_epochs(epoch, want):
    assert learning_rate(TrainConfig(epochs=50, lr=1e-4), epoch) == pytest.approx(want, abs=1e-18)


def test_warm_up_is_linear_and_the_end_is_min_lr():
    config = TrainConfig(epochs=10, lr=1e-3, min_lr=1e-5, warmup_epochs=2)
    assert learning_rate(config, 1.0) == pytest.approx(5e-4)
    assert learning_rate(config, 2.0) == pytest.approx(1e-3)
    assert learning_rate(config, 10.0) == pytest.approx(1e-5)


@pytest.mark.parametrize("warmup", [4, 6])
def test_a_warm_up_as_long_as_the_training_has_an_end(warmup):
    config = TrainConfig(epochs=4, lr=1e-3, warmup_epochs=warmup)
    assert learning_rate(config, 4.0) == pytest.approx(1e-3 * 4 / warmup)


@pytest.mark.parametrize(("epoch", "want"), [(0.0, 0.2), (50.0, 0.15), (100.0, 0.1), (120.0, 0.1)])
def test_annealed_weight_starts_whole_and_ends_at_its_end(epoch, want):
    assert loss_weight(LossWeight(start=0.2, end=0.1), epoch, 100) == pytest.approx(want)


def test_a_plain_weight_is_constant():
    assert loss_weight(LossWeight(start=0.3), 77.7, 100) == 0.3
