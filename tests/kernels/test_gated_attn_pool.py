"""Reducing, scoring and pooling on a CPU, against the reference in float64."""

import pytest
import torch

from mil.bags import MASKED
from mil.kernels import gated_scores
from mil.kernels.dropout import KeepMask, draw_keep_mask
from mil.kernels.gated_attn_pool import TrunkDropout, cpu, gated_attn_pool
from tests.kernels.gated import (
    HIDDEN,
    assert_close,
    assert_near,
    dropout_of,
    everything,
    leaves,
    make,
    mask_highest,
)

CHUNK = 16  # rows; the sizes below are under, on and over it, one tile, and several bags
CASES = [[1], [15], [16], [17], [16, 1, 33], [50, 2]]
# Relative to the largest number of a tensor. In bfloat16 a hidden value near 0 may be
# cut off by one and not the other.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-2}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 4 * HIDDEN * CHUNK)


@pytest.mark.parametrize("mask", [None, mask_highest], ids=["all", "masked"])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("sizes", CASES, ids=str)
def test_values_and_gradients_match_the_reference_in_double(sizes, gated, mask, poisoned):
    bags, weights = make(sizes, gated)
    got = everything(bags, weights, "cpu", torch.float32, mask)
    assert_close(
        got, everything(bags, weights, "reference", torch.float64, mask), TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("sizes", [[1], [17], [16, 1, 33]], ids=str)
def test_dropout_and_a_bias_match_the_reference_in_double(sizes, gated, poisoned):
    bags, weights = make(sizes, gated, bias=True)
    dropout = dropout_of(sum(sizes))
    got = everything(bags, weights, "cpu", torch.float32, mask_highest, dropout=dropout)
    want = everything(bags, weights, "reference", torch.float64, mask_highest, dropout=dropout)
    assert "d_reducer_bias" in got
    assert_close(got, want, TOLERANCE[torch.float32])


def test_dropout_of_the_product_is_dropout_of_each_gate():
    bags, weights = make([40])
    weights = leaves(weights, torch.float64)
    features = bags.features.double()
    torch.manual_seed(0)
    value, gate = (draw_keep_mask(40, 7, 0.25) for _ in range(2))
    both = KeepMask(value.keep * gate.keep, value.scale * gate.scale)
    pooled, scores, _ = gated_attn_pool(
        features, weights, bags.offsets, dropout=TrunkDropout(None, both)
    )
    hidden = torch.relu(features @ weights.reducer.T)
    v = torch.tanh(hidden @ weights.value.T + weights.value_bias) * value.keep * value.scale
    u = torch.sigmoid(hidden @ weights.gate.T + weights.gate_bias) * gate.keep * gate.scale
    want = (v * u) @ weights.score.T + weights.score_bias
    torch.testing.assert_close(scores, want)
    ours = torch.autograd.grad(pooled.square().sum(), tuple(weights[:7]))
    rows = want.softmax(0).T @ hidden
    by_layers = torch.autograd.grad(rows.square().sum(), tuple(weights[:7]))
    for got, expected in zip(ours, by_layers, strict=True):
        torch.testing.assert_close(got, expected)


def test_hidden_rows_are_scaled_up_by_what_is_dropped_of_them():
    bags, weights = make([30], bias=True)
    dropout = dropout_of(30)
    pooled, scores, _ = gated_attn_pool(
        bags.features.double(), leaves(weights, torch.float64), bags.offsets, dropout=dropout
    )
    hidden = torch.relu(bags.features @ weights.reducer.T + weights.reducer_bias)
    hidden = hidden * dropout.hidden.keep / 0.75
    want = scores.softmax(0).T @ hidden.double()
    torch.testing.assert_close(pooled[0], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", [None, mask_highest], ids=["all", "masked"])
@pytest.mark.parametrize("sizes", [[40], [33, 60]], ids=str)
def test_bfloat16_is_near(sizes, mask, poisoned):
    bags, weights = make(sizes)
    rounded = bags._replace(features=bags.features.bfloat16().float())
    got = everything(rounded, weights, "cpu", torch.bfloat16, mask)
    want = everything(rounded, weights, "reference", torch.float64, mask)
    assert got["pooled"].dtype == got["scores"].dtype == got["d_reducer"].dtype == torch.float32
    assert_near(got, want, TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize("kept", ["hidden rows", "some hidden rows", "nothing"])
def test_what_is_not_kept_is_computed_again(kept, monkeypatch, poisoned):
    bags, weights = make([100])
    dropout = dropout_of(100)
    want = everything(bags, weights, "reference", torch.float64, dropout=dropout)
    room = {"hidden rows": 100, "some hidden rows": 70, "nothing": 0}[kept]
    monkeypatch.setattr(cpu, "KEPT_BYTES", 4 * HIDDEN * room)
    monkeypatch.setattr(cpu, "KEPT_SHARE", 0.0)
    hidden, gated = cpu.room_for(bags.features, weights, learning=True)
    assert (len(hidden), len(gated)) == (room, 0)
    got = everything(bags, weights, "cpu", torch.float32, dropout=dropout)
    assert_close(got, want, TOLERANCE[torch.float32])


def test_without_a_gradient_no_gates_are_kept():
    bags, weights = make([100])
    assert len(cpu.room_for(bags.features, weights, learning=False)[1]) == 0
    assert len(cpu.room_for(bags.features, weights, learning=True)[1]) == 100
    pooled, *_ = gated_attn_pool(bags.features, weights, bags.offsets, backend="cpu")
    want, *_ = gated_attn_pool(bags.features.double(), weights, bags.offsets)
    torch.testing.assert_close(pooled.double(), want, rtol=1e-5, atol=1e-6)


def test_where_no_gradient_can_be_asked_for_nothing_is_kept_for_it(monkeypatch):
    bags, weights = make([100])
    asked = []
    room_for = cpu.room_for
    monkeypatch.setattr(
        cpu,
        "room_for",
        lambda *given, learning: asked.append(learning) or room_for(*given, learning),
    )
    given = bags.features, leaves(weights), bags.offsets
    with torch.no_grad():
        gated_attn_pool(*given, backend="cpu")
    gated_attn_pool(*given, backend="cpu")
    assert asked == [False, True]


def test_masked_scores_get_no_gradient_even_where_all_are_masked(poisoned):
    bags, weights = make([20])
    got = everything(
        bags, weights, "cpu", torch.float32, lambda scores: torch.full_like(scores, MASKED)
    )
    assert (
        max(got[name].abs().max() for name in ("d_value", "d_gate", "d_score", "d_score_bias")) == 0
    )
    mean = torch.relu(bags.features @ weights.reducer.T).mean(0)
    torch.testing.assert_close(got["pooled"][0], mean.expand(3, -1), rtol=1e-5, atol=1e-6)
    assert got["d_reducer"].abs().max() > 0


def test_attention_that_bfloat16_cannot_hold_still_sums_to_1():
    bags, weights = make([255])  # 1 / 255 lies between two numbers of bfloat16, 0.8 % apart
    features = bags.features.bfloat16()
    uniform = everything(
        bags._replace(features=features), weights, "cpu", torch.bfloat16, torch.zeros_like
    )
    want = everything(
        bags._replace(features=features), weights, "reference", torch.float64, torch.zeros_like
    )
    for name in ("pooled", "d_reducer"):
        scale = (uniform[name].double() * want[name]).sum() / want[name].square().sum()
        assert scale.item() == pytest.approx(1, abs=2.5e-3), name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_two_runs_give_the_same_bits(dtype):
    bags, weights = make([16, 1, 33])
    first, second = (everything(bags, weights, "cpu", dtype, mask_highest) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_bag_alone_is_the_same_as_among_others():
    bags, weights = make([30, 25])
    together, *_ = gated_attn_pool(bags.features, weights, bags.offsets, backend="cpu")
    alone, *_ = gated_attn_pool(bags.features[30:], weights, torch.tensor([0, 25]), backend="cpu")
    torch.testing.assert_close(together[1:], alone, rtol=1e-5, atol=1e-6)


def test_a_graph_that_is_kept_gives_the_same_gradient_twice():
    bags, weights = make([40])
    weights = leaves(weights)
    pooled, *_ = gated_attn_pool(bags.features, weights, bags.offsets, backend="cpu")
    first, second = (
        torch.autograd.grad(pooled.sum(), weights.reducer, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_a_weight_changed_before_the_gradient_is_noticed():
    bags, weights = make([40])
    weights = leaves(weights)
    pooled, *_ = gated_attn_pool(bags.features, weights, bags.offsets, backend="cpu")
    with torch.no_grad():
        weights.reducer.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        pooled.sum().backward()


@pytest.mark.parametrize(
    ("dtype", "fast"),
    [(torch.float32, True), (torch.bfloat16, True), (torch.float64, False)],
    ids=str,
)
def test_doubles_are_left_to_the_reference(dtype, fast, monkeypatch):
    monkeypatch.setattr(gated_scores, "SMALL", 0)
    bags, weights = make([5])
    weights = leaves(weights, max(dtype, torch.float32, key=lambda d: d.itemsize))
    pooled, *_ = gated_attn_pool(bags.features.to(dtype), weights, bags.offsets)
    assert ("GatedAttnPool" in type(pooled.grad_fn).__name__) == fast


@pytest.mark.parametrize(("small", "fast"), [(60, False), (59, True)])
def test_plain_torch_computes_few_numbers(small, fast, monkeypatch):
    bags, weights = make([5])
    weights = leaves(weights)
    numbers = 5 * len(weights.reducer)
    monkeypatch.setattr(gated_scores, "SMALL", numbers - 60 + small)
    pooled, *_ = gated_attn_pool(bags.features, weights, bags.offsets)
    assert ("GatedAttnPool" in type(pooled.grad_fn).__name__) == fast


def test_autocast_changes_nothing():
    bags, weights = make([40])
    plain = gated_attn_pool(bags.features, weights, bags.offsets, backend="cpu")[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            gated_attn_pool(bags.features, weights, bags.offsets, backend="cpu")[0], plain
        )
