"""Attention within a window: the tiled form against the reference in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from mil.kernels.window_attn import cpu, triton, window_attn
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


def everything(numbers, neighbours, backend, offsets=None):
    leaves = [number.detach().clone().requires_grad_() for number in numbers]
    q, k, v, bias = leaves
    rows = window_attn(q, k, v, neighbours, bias, offsets, backend=backend)
    draw = torch.Generator().manual_seed(1)
    upstream = torch.randn(rows.shape, generator=draw, dtype=torch.float64).to(rows)
    (rows * upstream).sum().backward()
    return [rows.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(
    "case", [(1, 1, 1, 1), (6, 9, 4, 4), (11, 9, 4, 2), (20, 3, 3, 1)], ids=str
)
def test_tiled_values_and_gradients_are_those_of_the_reference(case, monkeypatch):
    monkeypatch.setattr(cpu, "CHUNK_ROWS", 8)
    numbers, neighbours = make(*case)
    exact = everything(numbers, neighbours, "reference")
    tiled = everything([number.float() for number in numbers], neighbours, "cpu")
    for one, other in zip(tiled, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def segments_of(sizes, window):
    """Windows with places of their own segment alone, and the offsets of the segments."""
    draw = torch.Generator().manual_seed(len(sizes))
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    windows = []
    for first, size in zip(offsets.tolist(), sizes, strict=False):
        places = torch.randint(-size, size, (window, size), generator=draw)
        places[window // 2] = torch.arange(size)
        windows.append(torch.where(places < 0, -1, places + first))
    return torch.cat(windows, 1), offsets


@pytest.mark.parametrize("short", [0, 2, 100])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (3, 1)], ids=str)
def test_segments_by_all_pairs_are_those_of_the_reference_to_the_last_digits(
    heads, short, monkeypatch
):
    monkeypatch.setattr(cpu, "CHUNK_ROWS", 8)
    monkeypatch.setattr(cpu, "SHORT_SEGMENT", short)
    neighbours, offsets = segments_of((1, 9, 30, 2), 7)
    numbers, _ = make(int(offsets[-1]), 7, *heads)
    # Scores that fill all of float64's range of shares.
    numbers[0] *= 20
    exact = everything(numbers, neighbours, "reference")
    got = everything(numbers, neighbours, "cpu", offsets)
    for one, other in zip(got, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_segments_are_short_by_the_window_and_by_their_rows():
    ends = torch.tensor([0, 300, 5000])
    by_window = {window: cpu.spans_of(ends, 5000, window) for window in (9, 49, 961)}
    short = {
        window: [span.queries.start for span in spans if span.segment is not None]
        for window, spans in by_window.items()
    }
    # All pairs of the second segment would be too large for memory, whatever the window.
    assert short == {9: [], 49: [0, 256], 961: [0, 256]}


def test_scores_of_a_trained_head_are_those_place_by_place_to_the_bit():
    neighbours, offsets = segments_of((5, 40), 9)
    (q, k, v, bias), _ = make(45, 9, 4, 4, dtype=torch.float32)
    assert torch.equal(
        window_attn(q, k, v, neighbours, bias, offsets),
        window_attn(q, k, v, neighbours, bias),
    )


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
