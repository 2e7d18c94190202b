"""Reducing, scoring and pooling by Triton, against the reference in float64."""

import pytest
import torch

from mil.bags import MASKED
from mil.kernels.gated_attn_pool import cuda, gated_attn_pool
from tests.kernels.gated import (
    GPU,
    HIDDEN,
    Largest,
    assert_close,
    assert_near,
    everything,
    leaves,
    make,
    mask_highest,
)
from tests.kernels.marks import SLOW_INTERPRETED

CHUNK = (
    16  # rows; the sizes below are under, on and over it and half of it, one tile, and several bags
)
CASES = [[1], [15], [16], [17], [7, 9, 1, 33]]
# branches, gated, dim, attention; the hidden rows' width is 12
SHAPES = [(1, True, 20, 130), (16, True, 33, 7), (5, False, 16, 16)]
# Float32: of the largest number; half: of the norm. A hidden number near 0 may be cut
# off by one and not the other.
TOLERANCE = {torch.float32: 4e-6, torch.float16: 5e-3, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    set_chunk(monkeypatch, torch.float32)


def set_chunk(monkeypatch, dtype, kept=1000):
    """Set the rows of a chunk, half of them cached at a time, and the rows that are kept."""
    row = dtype.itemsize * HIDDEN
    monkeypatch.setattr(cuda, "CHUNK_BYTES", row * CHUNK)
    monkeypatch.setattr(cuda, "CACHED_BYTES", row * CHUNK // 2)
    monkeypatch.setattr(cuda, "KEPT_BYTES", row * kept)


@pytest.mark.parametrize(
    "mask", [pytest.param(None, marks=SLOW_INTERPRETED), mask_highest], ids=["all", "masked"]
)
@pytest.mark.parametrize("sizes", CASES, ids=str)
def test_values_and_gradients_match_the_reference_in_double(sizes, mask, poisoned):
    bags, weights = make(sizes, bias=True)
    got = everything(bags, weights, "triton", torch.float32, mask, stats=True)
    want = everything(bags, weights, "reference", torch.float64, mask, stats=True)
    assert_close(got, want, TOLERANCE[torch.float32])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_types_branches_and_widths(shape, dtype, monkeypatch, poisoned):
    set_chunk(monkeypatch, dtype)
    branches, gated, dim, attention = shape
    bags, weights = make([30, 10], gated, branches, dim, attention)
    bags = bags._replace(features=bags.features.to(dtype).float())
    got = everything(bags, weights, "triton", dtype, stats=True)
    assert {got[name].dtype for name in ("pooled", "scores", "entropy", "d_reducer")} == {
        torch.float32
    }
    assert got["d_features"].dtype == dtype
    assert_near(
        got, everything(bags, weights, "reference", torch.float64, stats=True), TOLERANCE[dtype]
    )


@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, mask_highest], ids=["all", "masked"])
@pytest.mark.parametrize(("kept", "rows"), [(0, 0), (25, 16), (49, 48), (50, 50)])
def test_what_is_not_kept_is_computed_again(kept, rows, mask, monkeypatch, poisoned):
    set_chunk(monkeypatch, torch.float32, kept)
    bags, weights = make([20, 30])
    assert len(cuda.room_for(bags.features, weights, needed=True)) == rows
    got = everything(bags, weights, "triton", torch.float32, mask, stats=True)
    want = everything(bags, weights, "reference", torch.float64, mask, stats=True)
    assert_close(got, want, TOLERANCE[torch.float32])


def test_nothing_is_kept_without_need():
    bags, weights = make([20])
    assert len(cuda.room_for(bags.features, weights, needed=False)) == 0


def test_nothing_is_kept_where_no_gradient_can_be_asked_for(monkeypatch):
    bags, weights = make([20])
    needed = []
    room_for = cuda.room_for
    monkeypatch.setattr(
        cuda, "room_for", lambda *given: needed.append(given[-1]) or room_for(*given)
    )
    given = bags.features.to(GPU), leaves(weights, GPU), bags.offsets.to(GPU)
    with torch.no_grad():
        gated_attn_pool(*given, backend="triton")
    gated_attn_pool(*given, backend="triton")
    assert needed == [False, True]


def test_features_need_no_gradient(poisoned):
    bags, weights = make([20, 5])
    want = everything(bags, weights, "triton", torch.float32)
    got = everything(bags, weights, "triton", torch.float32, of_features=False)
    assert want.keys() - got.keys() == {"d_features"}
    assert all(torch.equal(tensor, want[name]) for name, tensor in got.items())


@pytest.mark.parametrize("asked", ["pooled", "scores", "entropy"])
def test_results_that_nothing_is_asked_of_have_no_gradient(asked, poisoned):
    bags, weights = make([20, 5])
    got = everything(bags, weights, "triton", torch.float32, stats=True, asked=asked)
    want = everything(bags, weights, "reference", torch.float64, stats=True, asked=asked)
    assert_close(got, want, 1e-5)


def test_masked_scores_get_no_gradient_even_where_all_are_masked(poisoned):
    bags, weights = make([20])
    got = everything(
        bags, weights, "triton", torch.float32, lambda scores: torch.full_like(scores, MASKED)
    )
    assert (
        max(got[name].abs().max() for name in ("d_value", "d_gate", "d_score", "d_score_bias")) == 0
    )
    mean = torch.relu(bags.features @ weights.reducer.T).mean(0)
    torch.testing.assert_close(got["pooled"][0], mean.expand(3, -1), rtol=1e-5, atol=1e-6)
    assert got["d_reducer"].abs().max() > 0


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(dtype, marks=() if dtype == torch.float32 else SLOW_INTERPRETED)
        for dtype in TOLERANCE
    ],
    ids=str,
)
def test_two_runs_give_the_same_bits(dtype):
    bags, weights = make([16, 1, 13])
    first, second = (
        everything(bags, weights, "triton", dtype, mask_highest, stats=True) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_chunks_change_nothing_but_the_last_bits(monkeypatch):
    bags, weights = make([20, 5])
    got = everything(bags, weights, "triton", torch.float32, stats=True)
    monkeypatch.setattr(cuda, "CHUNK_BYTES", 4 * HIDDEN * 1000)
    monkeypatch.setattr(cuda, "CACHED_BYTES", 4 * HIDDEN * 1000)
    assert_close(
        got,
        everything(bags, weights, "triton", torch.float32, stats=True),
        TOLERANCE[torch.float32],
    )


def test_a_graph_that_is_kept_gives_the_same_gradient_twice(monkeypatch):
    set_chunk(monkeypatch, torch.float32, kept=0)
    bags, weights = make([40])
    weights = leaves(weights, GPU)
    pooled, *_ = gated_attn_pool(
        bags.features.to(GPU), weights, bags.offsets.to(GPU), backend="triton"
    )
    first, second = (
        torch.autograd.grad(pooled.sum(), weights.reducer, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_autocast_changes_nothing(dtype):
    bags, weights = make([10])
    plain = everything(bags, weights, "triton", dtype)
    with torch.autocast(GPU.type, dtype=torch.bfloat16):
        got = everything(bags, weights, "triton", dtype)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in got.items())


@pytest.mark.parametrize("mask", [None, mask_highest], ids=["all", "masked"])
def test_no_tensor_holds_hidden_rows_or_gates_of_all_tiles(mask, monkeypatch):
    set_chunk(monkeypatch, torch.float32, kept=32)
    tiles = 80
    attention = 20
    bags, weights = make([50, 30], branches=2, dim=5, attention=attention)
    given = leaves(weights, GPU)
    features = bags.features.to(GPU)
    offsets = bags.offsets.to(GPU)
    seen = {}
    for backend in ("reference", "triton"):
        with Largest() as found:
            pooled, *_ = gated_attn_pool(features, given, offsets, mask, backend=backend)
            pooled.square().sum().backward()
        seen[backend] = found.nbytes
    assert seen["reference"] >= 4 * tiles * attention
    assert seen["triton"] <= 4 * CHUNK * 2 * attention < 4 * tiles * HIDDEN  # gates of a chunk
