"""Attention within a window: the tiled form against the reference in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from mil.kernels.window_attn import function, window_attn


def make(rows, window, query_heads, key_heads, dtype=torch.float64):
    draw = torch.Generator().manual_seed(rows)
    shapes = (
        (rows, query_heads, 8),
        (rows, key_heads, 8),
        (rows, key_heads, 5),
        (window, query_heads),
    )
    q, k, v, bias = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    neighbours = torch.randint(-rows, rows, (window, rows), generator=draw).clamp(min=-1)
    # Each row has itself, at any place of the window.
    neighbours[window // 2] = torch.arange(rows)
    return [t.to(dtype) for t in (q, k, v, bias)], neighbours


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


def test_gradients_are_numerical_ones():
    numbers, neighbours = make(4, 3, 2, 1)
    leaves = [number.requires_grad_() for number in numbers]

    def function(q, k, v, bias):
        return window_attn(q, k, v, neighbours, bias, backend="reference")

    assert gradcheck(function, leaves)


def test_a_row_without_neighbours_but_itself_is_its_own_value():
    (q, k, v, bias), neighbours = make(5, 3, 2, 2, torch.float32)
    neighbours[:, 2] = torch.tensor([-1, 2, -1])
    rows = window_attn(q, k, v, neighbours, bias)
    torch.testing.assert_close(rows[2], v[2])
