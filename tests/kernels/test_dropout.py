"""Dropout from random bytes: rates, scale, gradient, and where the random state stands."""

import pytest
import torch

from mil.kernels import dropout
from mil.kernels.dropout import draw_keep_mask

RATES = [0.25, 0.5, 0.1, 0.4375, 1 / 3]


def masks_of(rate, rows=1000, width=301, seed=0):
    torch.manual_seed(seed)
    return draw_keep_mask(rows, width, rate)


@pytest.mark.parametrize("rate", RATES)
def test_as_many_are_dropped_as_the_rate_says(rate):
    keep, _ = masks_of(rate)
    assert set(keep.unique().tolist()) == {0, 1}
    # Four standard deviations of a mean of 301 000 draws.
    margin = 4 * (rate * (1 - rate) / keep.numel()) ** 0.5
    assert 1 - keep.float().mean().item() == pytest.approx(rate, abs=margin)


@pytest.mark.parametrize("rate", RATES)
def test_the_rate_that_is_drawn_is_within_its_bound(rate):
    drawn = 1 - 1 / masks_of(rate, 1, 1).scale
    exact = (256 * rate).is_integer()
    assert abs(drawn - rate) <= (1e-15 if exact else 2**-17)


def test_every_random_number_is_equally_likely(monkeypatch):
    """All bytes once, then all pairs of bytes: the share that is kept is exact."""
    for rate, numbers in ((0.25, torch.arange(256).byte()), (0.1, torch.arange(65536).short())):
        words = numbers.view(torch.int64)
        monkeypatch.setattr(
            torch.Tensor, "random_", lambda empty, *bounds, words=words: empty.copy_(words)
        )
        keep, scale = draw_keep_mask(1, len(numbers), rate)
        assert int(keep.sum()) * scale == pytest.approx(len(numbers), rel=1e-12)
        monkeypatch.undo()


def test_rows_columns_and_neighbours_are_independent():
    keep = masks_of(0.5, 2000, 64).keep.float() - 0.5
    margin = 4 * 0.5 / 2000**0.5
    assert keep.mean(0).abs().max() < margin
    for shift in (1, 2, 4, 8):
        products = keep * keep.roll(shift, 1) * 2
        assert products.mean(0).abs().max() < margin


def test_a_seed_repeats_the_draws_and_a_saved_state_resumes_them():
    first = masks_of(0.3).keep
    state = torch.get_rng_state()
    second = draw_keep_mask(1000, 301, 0.3).keep
    assert not torch.equal(first, second)
    assert torch.equal(masks_of(0.3).keep, first)
    torch.set_rng_state(state)
    assert torch.equal(draw_keep_mask(1000, 301, 0.3).keep, second)


@pytest.mark.parametrize(("rate", "least", "most"), [(1e-9, 15, 15), (1 - 1e-9, 0, 1)])
def test_rates_near_0_and_1_have_a_finite_scale(rate, least, most):
    keep, scale = masks_of(rate, 3, 5)
    assert least <= keep.sum() <= most
    assert 1 <= scale <= 65536


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_any_size_is_filled(size, monkeypatch, poisoned):
    monkeypatch.setattr(dropout, "DRAWN_BYTES", 64)
    for rate in (0.25, 0.1):
        assert draw_keep_mask(1, size, rate).keep.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradient_are_the_mask_times_the_scale(dtype):
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    values.requires_grad_()
    torch.manual_seed(0)
    dropped = dropout.dropout(values, 0.25)
    torch.manual_seed(0)
    keep, scale = draw_keep_mask(30, 1, 0.25)
    factor = (keep.view(6, 5) * scale).to(dtype)
    assert dropped.dtype == dtype
    torch.testing.assert_close(dropped, values * factor)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    torch.testing.assert_close(gradient, factor)
