"""Attention within a window: the tiled form against the reference in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from mil.kernels.window_attn import function, triton, window_attn
from tests.kernels.marks import SLOW_INTERPRETED

# For Triton, blocks of 4 rows: one row; shared heads, more rows attending to one than a block.
TRITON_CASES = [(1, 1, 1, 1, (8, 5)), (5, 3, 2, 1, (17, 5)), (6, 5, 1, 1, (16, 33))]
FAST = (2, torch.float32)
# The interpreter cuts the end of a bfloat16 off, so that sums over rows are all too small.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-4, torch.float16: 2**-8}


def make(rows, window, query_heads, key_heads, widths=(8, 5), dtype=torch.float64):
    draw = torch.Generator().manual_seed(rows)
    shapes = (
        (rows, query_heads, widths[0]),
        (rows, key_heads, widths[0]),
        (rows, key_heads, widths[1]),
        (window, query_heads),
    )
    q, k, v, bias = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    neighbours = torch.randint(-rows, rows, (window, rows), generator=draw).clamp(min=-1)
    # Each row has itself, at any place of the window.
    neighbours[window // 2] = torch.arange(rows)
    return [t.to(dtype) for t in (q, k, v, bias)], neighbours


def on(device, numbers):
    return [number.to(device) for number in numbers]


def everything(numbers, neighbours, backend):
    leaves = [number.detach().clone().requires_grad_() for number in numbers]
    q, k, v, bias = leaves
    rows = window_attn(q, k, v, neighbours, bias, backend=backend)
    draw = torch.Generator().manual_seed(1)
    upstream = torch.randn(rows.shape, generator=draw, dtype=torch.float64).to(rows)
    (rows * upstream).sum().backward()
    return [rows.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(
    "case", [(1, 1, 1, 1), (6, 9, 4, 4), (11, 9, 4, 2), (20, 3, 3, 1)], ids=str
)
def test_tiled_values_and_gradients_are_those_of_the_reference(case, monkeypatch):
    monkeypatch.setattr(function, "CHUNK_ROWS", 8)
    numbers, neighbours = make(*case)
    exact = everything(numbers, neighbours, "reference")
    tiled = everything([number.float() for number in numbers], neighbours, "cpu")
    for one, other in zip(tiled, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def triton_cases():
    """Each in each type; one runs where the interpreter is slow."""
    return [
        pytest.param(case, dtype, marks=() if (number, dtype) == FAST else SLOW_INTERPRETED)
        for dtype in TOLERANCE
        for number, case in enumerate(TRITON_CASES)
    ]


@pytest.mark.parametrize(("case", "dtype"), triton_cases(), ids=str)
def test_triton_values_and_gradients_are_those_of_the_reference(
    case, dtype, device, monkeypatch, poisoned
):
    monkeypatch.setattr(triton, "BLOCK_VALUES", 64)
    numbers, neighbours = make(*case, dtype)
    exact = everything([number.double() for number in numbers], neighbours, "reference")
    got = everything(on(device, numbers), neighbours.to(device), "triton")
    for number, (one, other) in enumerate(zip(got, exact, strict=True)):
        close = TOLERANCE[dtype] * max(1.0, other.abs().max().item())
        torch.testing.assert_close(
            one.cpu().double(), other, rtol=0, atol=close, msg=lambda m, n=number: f"{n}: {m}"
        )


def test_heads_too_wide_for_triton_are_refused_or_tiled(monkeypatch):
    numbers, neighbours = make(2, 1, 1, 1, (129, 5), torch.float32)
    q, k, v, bias = numbers
    with pytest.raises(ValueError, match="heads of 129 columns: window_attn in Triton takes 128"):
        window_attn(q, k, v, neighbours, bias, backend="triton")
    monkeypatch.setattr("mil.kernels.window_attn.choose_backend", lambda *_: "triton")
    torch.testing.assert_close(window_attn(q, k, v, neighbours, bias), v)


def test_gradients_are_numerical_ones():
    numbers, neighbours = make(4, 3, 2, 1)
    leaves = [number.requires_grad_() for number in numbers]

    def function(q, k, v, bias):
        return window_attn(q, k, v, neighbours, bias, backend="reference")

    assert gradcheck(function, leaves)


def test_a_row_without_neighbours_but_itself_is_its_own_value():
    (q, k, v, bias), neighbours = make(5, 3, 2, 2, dtype=torch.float32)
    neighbours[:, 2] = torch.tensor([-1, 2, -1])
    rows = window_attn(q, k, v, neighbours, bias)
    torch.testing.assert_close(rows[2], v[2])
