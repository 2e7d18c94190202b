"""Gated scores by Triton and in tiled torch, against the reference in float64."""

import math

import pytest
import torch

from mil.kernels import gated_scores as public
from mil.kernels.chunks import chunks, even_rows
from mil.kernels.gated_scores import GateWeights, choose_gated, cpu, gated_scores, triton
from tests.kernels.gated import GPU, Largest, assert_near, leaves, place
from tests.kernels.marks import cases_in_types

CONFIG = triton.config
# of a block; a chunk has two of them. Tiles are below under, on and over both, and one
# alone
ROWS = 16
SIZES = [1, 15, 16, 17, 32, 33, 70]
# branches, gated, hidden, attention: widths under, on and over a block, which is 16
# wide
SHAPES = [
    (1, True, 33, 7),
    (5, True, 16, 16),
    (16, True, 20, 40),
    (3, False, 33, 20),
    (1, False, 5, 16),
]
# Of the norm of a tensor. In Triton only operands are rounded, the gates' gradient, and
# what a chunk adds to a sum
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1.5e-3, torch.bfloat16: 1e-2}
ON_CPU = {torch.float32: 2e-6, torch.bfloat16: 3e-2}
BACKENDS = {"triton": TOLERANCE, "cpu": ON_CPU}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    blocks = {"BLOCK_N": ROWS, "BLOCK_A": 16, "BLOCK_H": 16, "BLOCK_K": 16}
    monkeypatch.setattr(triton, "config", lambda dtype, width, backward: blocks)
    monkeypatch.setattr(triton, "CHUNK_BYTES", 0)
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 0)


def set_chunk(monkeypatch, dtype, gates, rows=2 * ROWS):
    """The chunk's rows by its bytes, whatever the widths."""
    monkeypatch.setattr(triton, "CHUNK_BYTES", dtype.itemsize * gates * rows)
    monkeypatch.setattr(cpu, "CHUNK_BYTES", dtype.itemsize * gates * rows)


def make(tiles, branches, gated, hidden, attention, dtype=torch.float32):
    """Hidden rows that the type holds exactly, and weights."""
    draw = torch.Generator().manual_seed(tiles + branches)

    def weight(*shape):
        return torch.randn(*shape, generator=draw) / shape[-1] ** 0.5

    gate = (weight(attention, hidden), weight(attention)) if gated else (None, None)
    value = weight(attention, hidden), weight(attention)
    rows = torch.randn(tiles, hidden, generator=draw).to(dtype)
    return rows, GateWeights(*value, *gate, 3 * weight(branches, attention), weight(branches))


def everything(hidden, weights, backend, dtype):
    """Scores, and gradients of hidden rows and weights for a random one, on the CPU."""
    leaf = hidden.detach().clone().to(place(backend), dtype).requires_grad_()
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    weights = leaves(weights, leaf.device, kind)
    scores = gated_scores(leaf, weights, backend=backend)
    upstream = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    scores.backward(upstream.to(scores))
    named = {"hidden": leaf, **weights._asdict()}
    grads = {f"d_{name}": t.grad.cpu() for name, t in named.items() if t is not None}
    return {"scores": scores.detach().cpu()} | grads


@pytest.mark.parametrize(
    ("backend", "shape", "dtype"),
    [
        *cases_in_types([("triton", shape) for shape in SHAPES], TOLERANCE),
        *(("cpu", shape, dtype) for shape in SHAPES for dtype in ON_CPU),
    ],
    ids=str,
)
def test_values_and_gradients_match_the_reference_in_double(
    shape, backend, dtype, monkeypatch, poisoned
):
    set_chunk(monkeypatch, dtype, shape[3] * (1 + shape[1]))
    hidden, weights = make(70, *shape, dtype)
    got = everything(hidden, weights, backend, dtype)
    assert got["scores"].dtype == got["d_value"].dtype == torch.float32
    assert got["d_hidden"].dtype == dtype
    want = everything(hidden, weights, "reference", torch.float64)
    assert_near(got, want, BACKENDS[backend][dtype])


@pytest.mark.parametrize("backend", ["triton", "cpu"])
@pytest.mark.parametrize("tiles", SIZES)
def test_sizes_under_on_and_over_block_and_chunk(tiles, backend, monkeypatch, poisoned):
    shape = (2, True, 12, 7)
    set_chunk(monkeypatch, torch.float32, 14)
    hidden, weights = make(tiles, *shape)
    want = everything(hidden, weights, "reference", torch.float64)
    assert_near(everything(hidden, weights, backend, torch.float32), want, TOLERANCE[torch.float32])


@pytest.mark.parametrize(("width", "dtype"), cases_in_types([(70,), (80,)], TOLERANCE), ids=str)
def test_the_blocks_that_are_launched_on_a_gpu(dtype, width, monkeypatch, poisoned):
    monkeypatch.setattr(triton, "config", CONFIG)
    hidden, weights = make(150, 5, True, width, 130, dtype)
    want = everything(hidden, weights, "reference", torch.float64)
    assert_near(everything(hidden, weights, "triton", dtype), want, TOLERANCE[dtype])


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_by_hand(backend):
    """Of 0 and ln 2: tanh(ln 2) = 3/5, sigmoid(2 ln 2) = 4/5."""
    hidden = torch.tensor([[0.0], [math.log(2)]])
    zero = torch.zeros(1)
    one = torch.ones(1, 1)
    weights = GateWeights(
        one, zero, 2 * one, zero, torch.tensor([[10.0], [-5.0]]), torch.tensor([1.0, 0.0])
    )
    scores = gated_scores(
        hidden.to(place(backend)), leaves(weights, place(backend)), backend=backend
    )
    torch.testing.assert_close(scores.detach().cpu(), torch.tensor([[1.0, 0.0], [5.8, -2.4]]))


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
def test_gradcheck_of_the_reference(gated):
    hidden, weights = make(4, 2, gated, 3, 3)
    given = hidden.double().requires_grad_(), *leaves(weights, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, *w: gated_scores(h, GateWeights(*w), backend="reference"), given
    )


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [*cases_in_types([("triton",)], TOLERANCE), *(("cpu", dtype) for dtype in ON_CPU)],
    ids=str,
)
def test_two_runs_give_the_same_bits(backend, dtype):
    hidden, weights = make(70, 5, True, 33, 20, dtype)
    first, second = (everything(hidden, weights, backend, dtype) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backend", ["triton", "cpu"])
def test_hidden_rows_need_no_gradient_and_no_order_in_memory(backend, poisoned):
    hidden, weights = make(40, 2, True, 12, 7)
    want = everything(hidden, weights, backend, torch.float32)
    given = leaves(weights, place(backend))
    scores = gated_scores(hidden.to(place(backend)).T.contiguous().T, given, backend=backend)
    upstream = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    scores.backward(upstream.to(scores).T.contiguous().T)
    torch.testing.assert_close(scores.detach().cpu(), want["scores"])
    for name, leaf in given._asdict().items():
        torch.testing.assert_close(leaf.grad.cpu(), want[f"d_{name}"])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 3e-2)], ids=str
)
def test_gradients_that_cancel_are_not_rounded_before(dtype, tolerance):
    hidden, weights = make(1, 2, True, 12, 7, dtype)
    given = leaves(weights, GPU)
    upstream = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    upstream += 1e-3 - upstream.mean(0)
    gated_scores(hidden.expand(64, 12).to(GPU), given, backend="triton").backward(upstream.to(GPU))
    values = torch.tanh(hidden.float() @ weights.value.T + weights.value_bias)
    values *= torch.sigmoid(hidden.float() @ weights.gate.T + weights.gate_bias)
    torch.testing.assert_close(
        given.score.grad.cpu(), 64e-3 * values.expand(2, 7), rtol=tolerance, atol=0
    )


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # of numpy, which interprets
@pytest.mark.parametrize("backend", ["triton", "cpu"])
def test_large_numbers_saturate(backend):
    hidden, weights = make(20, 2, True, 12, 7)
    got = everything(300 * hidden, weights, backend, torch.float32)
    assert_near(
        {"scores": got["scores"]},
        {"scores": gated_scores(300 * hidden.double(), weights, "reference")},
        2e-6,
    )
    assert all(t.isfinite().all() for t in got.values())


def largest(backend, hidden, weights):
    leaf = hidden.clone().to(place(backend)).requires_grad_()
    given = leaves(weights, place(backend))
    with Largest() as seen:
        gated_scores(leaf, given, backend=backend).square().sum().backward()
    return seen.nbytes


@pytest.mark.parametrize("backend", ["triton", "cpu"])
def test_no_tensor_holds_the_gates_of_all_tiles(backend, monkeypatch):
    set_chunk(monkeypatch, torch.float32, 40)
    hidden, weights = make(300, 2, True, 5, 20)
    assert largest("reference", hidden, weights) >= 4 * 300 * 20
    assert largest(backend, hidden, weights) <= 4 * max(300 * 5, 32 * 40)  # rows; gates of a chunk


@pytest.mark.parametrize(
    ("dtype", "kind", "found"),
    [
        (torch.float32, torch.float32, "GatedScores"),
        (torch.bfloat16, torch.float32, "GatedScores"),
        (torch.bfloat16, torch.bfloat16, "ToCopy"),
        (torch.float16, torch.float32, "ToCopy"),
        (torch.float64, torch.float64, "Addmm"),
    ],
    ids=str,
)
def test_what_the_cpu_is_left_with(dtype, kind, found, monkeypatch):
    monkeypatch.setattr(public, "SMALL", 0)
    hidden, weights = make(5, 2, True, 12, 7)
    weights = leaves(weights, kind)
    assert found in type(gated_scores(hidden.to(dtype), weights).grad_fn).__name__


@pytest.mark.parametrize(
    ("backend", "dtype"), [("cpu", torch.float32), ("triton", torch.float16)], ids=str
)
def test_autocast_changes_nothing(backend, dtype):
    hidden, weights = make(10, 2, True, 12, 7, dtype)
    plain = everything(hidden, weights, backend, dtype)
    with torch.autocast(place(backend).type, torch.bfloat16):
        got = everything(hidden, weights, backend, dtype)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in got.items())


@pytest.mark.parametrize(("tiles", "rows"), [(1, 1), (7, 3), (6, 3), (2, 5)])
def test_chunks_hold_every_row_once(tiles, rows):
    found = list(chunks(tiles, rows))
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(tiles))
    assert max(part.stop - part.start for part in found) <= rows


@pytest.mark.parametrize(
    ("tiles", "most", "rows"),
    [
        (16384, 5461, 4096),
        (1000, 600, 512),
        (1025, 1024, 640),
        (50, 8192, 128),
        (70, 32, 32),
        (5, 0, 1),
        (0, 500, 128),
    ],
)
def test_chunks_on_a_gpu_are_even_and_aligned(tiles, most, rows):
    assert even_rows(tiles, most) == rows


@pytest.mark.parametrize(("branches", "dtype"), [(17, torch.float32), (2, torch.float64)], ids=str)
def test_what_triton_is_not_made_for(branches, dtype):
    hidden, weights = make(5, branches, True, 12, 7, dtype)
    with pytest.raises(
        ValueError,
        match=f"at most 16 branches in fp16, bf16 or fp32; got {branches} branches of {dtype}",
    ):
        gated_scores(hidden, weights, backend="triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(public, "choose_backend", lambda backend, *tensors: "triton")
        assert choose_gated("auto", hidden, weights, branches) == "reference"
        assert choose_gated("auto", hidden.float(), weights, 16) == "triton"
