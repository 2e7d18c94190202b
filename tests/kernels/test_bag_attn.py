"""Attention between segments: the tiled form against the reference in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from mil.kernels.bag_attn import bag_attn, cpu, merge

# Queries and keys of each segment: one tile, none, fewer and more than a block.
QUERIES = (1, 5, 0, 3, 9)
KEYS = (1, 7, 2, 0, 20)
HEADS = [(1, 1), (4, 4), (4, 2), (3, 1)]
WIDTH = 8
VALUE_WIDTH = 5


def offsets(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def make(query_heads, key_heads, dtype=torch.float64, queries=QUERIES, keys=KEYS):
    draw = torch.Generator().manual_seed(query_heads)
    shapes = (
        (sum(queries), query_heads, WIDTH),
        (sum(keys), key_heads, WIDTH),
        (sum(keys), key_heads, VALUE_WIDTH),
        (sum(keys), key_heads),
    )
    numbers = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    return [number.to(dtype) for number in numbers], offsets(queries), offsets(keys)


def attend(numbers, of_queries, of_keys, backend):
    q, k, v, bias = numbers
    return bag_attn(q, k, v, of_queries, of_keys, bias, backend=backend)


def everything(numbers, of_queries, of_keys, backend):
    """Values and gradients; of segments without keys the log-sum-exp has none."""
    leaves = [number.detach().clone().requires_grad_() for number in numbers]
    rows, lse = attend(leaves, of_queries, of_keys, backend)
    known = lse.isfinite()
    draw = torch.Generator().manual_seed(1)
    upstream = torch.randn(rows.shape, generator=draw, dtype=torch.float64).to(rows)
    loss = (rows * upstream).sum() + (lse[known] * torch.linspace(-1, 1, int(known.sum()))).sum()
    loss.backward()
    return [rows.detach(), lse.detach(), *(leaf.grad for leaf in leaves)]


@pytest.fixture(params=[(1, 1), (2, 3), (64, 64)], ids=str)
def blocks(request, monkeypatch):
    monkeypatch.setattr(cpu, "QUERY_BLOCK", request.param[0])
    monkeypatch.setattr(cpu, "KEY_BLOCK", request.param[1])


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_tiled_values_and_gradients_are_those_of_the_reference(heads, blocks):
    numbers, *segments = make(*heads)
    exact = everything(numbers, *segments, "reference")
    tiled = everything([number.float() for number in numbers], *segments, "cpu")
    for one, other in zip(tiled, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_the_reference_is_softmax_attention():
    (q, k, v, bias), of_queries, of_keys = make(2, 2)
    rows, lse = bag_attn(q, k, v, of_queries, of_keys, bias, backend="reference")
    for head in range(2):
        scores = q[1:6, head] @ k[1:8, head].T / WIDTH**0.5 + bias[1:8, head]
        torch.testing.assert_close(rows[1:6, head], scores.softmax(1) @ v[1:8, head])
        torch.testing.assert_close(lse[1:6, head], scores.logsumexp(1))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_segment_without_keys_has_rows_of_zeros(backend):
    numbers, *segments = make(4, 2, torch.float32)
    rows, lse = attend(numbers, *segments, backend)
    assert not rows[6:9].any()
    assert lse[6:9].isneginf().all()
    assert lse[:6].isfinite().all()


def test_gradients_with_that_of_the_log_sum_exp_are_numerical_ones():
    numbers, *segments = make(2, 1, queries=(2, 1), keys=(3, 2))
    leaves = [number.requires_grad_() for number in numbers]

    def function(*leaves):
        return attend(leaves, *segments, "reference")

    assert gradcheck(function, leaves)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_parts_merge_to_the_whole(backend):
    (q, k, v, bias), of_queries, of_keys = make(4, 2, torch.float32, (4, 6), (9, 11))
    whole = bag_attn(q, k, v, of_queries, of_keys, bias, backend=backend)
    first = torch.cat([torch.arange(0, 3), torch.arange(9, 9)])
    rest = torch.cat([torch.arange(3, 9), torch.arange(9, 20)])
    parts = [
        bag_attn(q, k[rows], v[rows], of_queries, ends, bias[rows], backend=backend)
        for rows, ends in ((first, offsets((3, 0))), (rest, offsets((6, 11))))
    ]
    rows, lse = merge(*map(list, zip(*parts, strict=True)))
    torch.testing.assert_close(rows, whole[0])
    torch.testing.assert_close(lse, whole[1])


def test_half_precision_keeps_the_sums_in_float32():
    numbers, *segments = make(4, 2, torch.bfloat16)
    exact = attend([number.double() for number in numbers], *segments, "reference")
    rows, lse = attend(numbers, *segments, "cpu")
    assert rows.dtype == torch.bfloat16
    torch.testing.assert_close(lse.double(), exact[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows.double(), exact[0], rtol=2**-8, atol=2**-8)


def test_heads_and_segments_that_do_not_fit_are_refused():
    (q, k, v, _), of_queries, of_keys = make(3, 2)
    with pytest.raises(ValueError, match="3 query heads are no multiple of 2 key heads"):
        bag_attn(q, k, v, of_queries, of_keys)
    (q, k, v, _), of_queries, of_keys = make(2, 2)
    with pytest.raises(ValueError, match="5 segments of queries, but 4 of keys"):
        bag_attn(q, k, v, of_queries, of_keys[:-1])
