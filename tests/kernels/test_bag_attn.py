"""Attention between segments: the tiled form against the reference in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from mil.kernels import padding
from mil.kernels.bag_attn import bag_attn, cpu, merge, triton_backward, triton_forward
from tests.kernels.marks import SLOW_INTERPRETED

# Queries and keys of each segment: one tile, none, fewer and more than a block.
QUERIES = (1, 5, 0, 3, 9)
KEYS = (1, 7, 2, 0, 20)
HEADS = [(1, 1), (4, 4), (4, 2), (3, 1)]
WIDTH = 8
VALUE_WIDTH = 5


def offsets(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def make(
    query_heads,
    key_heads,
    dtype=torch.float64,
    queries=QUERIES,
    keys=KEYS,
    widths=(WIDTH, VALUE_WIDTH),
):
    draw = torch.Generator().manual_seed(query_heads)
    width, value_width = widths
    shapes = (
        (sum(queries), query_heads, width),
        (sum(keys), key_heads, width),
        (sum(keys), key_heads, value_width),
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
    of_lse = torch.linspace(-1, 1, int(known.sum())).to(lse)
    loss = (rows * upstream).sum() + (lse[known] * of_lse).sum()
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


# Segments in blocks: of one length, of several, one without keys between them, and long ones.
PACKED = {
    "alike": ((4, 4, 4), (6, 6, 6)),
    "ragged": ((1, 5, 3, 1, 0, 7), (1, 7, 2, 3, 5, 4)),
    "without keys": ((2, 5, 1, 3), (4, 0, 3, 6)),
    "one tile a bag": ((1, 1, 1), (1, 1, 1)),
    "queries alike": ((3, 3, 3), (5, 9, 2)),
    "apart": ((2, 40, 3, 36, 1), (3, 40, 2, 44, 9)),
}
# Most pairs of a block of segments, of a segment in one, and of all segments taken as one.
LIMITS = {"apart": (0, 0, 0), "blocks": (2048, 64, 0), "as one": (2048, 64, 10**4)}


@pytest.fixture(params=LIMITS)
def limits(request, monkeypatch):
    pairs, short, few = LIMITS[request.param]
    monkeypatch.setattr(padding, "BLOCK_PAIRS", pairs)
    monkeypatch.setattr(padding, "SHORT_PAIRS", short)
    monkeypatch.setattr(padding, "FEW_PAIRS", few)
    return request.param


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=str)
def test_segments_together_are_those_of_the_reference_to_the_last_digits(packed, heads, limits):
    queries, keys = PACKED[packed]
    numbers, *segments = make(*heads, queries=queries, keys=keys)
    exact = everything(numbers, *segments, "reference")
    got = everything(numbers, *segments, "cpu")
    again = everything(numbers, *segments, "cpu")
    for one, other, repeated in zip(got, exact, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert torch.equal(one, repeated)
    # Without a bias, where the ends of the segments alone are hidden.
    unbiased = [*numbers[:3], torch.zeros_like(numbers[3])]
    want = attend(unbiased, *segments, "reference")
    rows = bag_attn(*unbiased[:3], *segments, backend="cpu")
    for one, other in zip(rows, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_segments_of_one_key_are_those_of_the_reference_to_the_last_digits(
    heads, with_bias, monkeypatch
):
    numbers, *segments = make(*heads, queries=(3, 0, 1, 5), keys=(1, 1, 1, 1))
    if not with_bias:
        numbers[3].zero_()
    exact = everything(numbers, *segments, "reference")
    # No blocks are needed.
    monkeypatch.setattr(cpu, "blocks_of", None)
    got = everything(numbers, *segments, "cpu")
    for one, other in zip(got, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_many_short_segments_are_a_few_blocks():
    ends = offsets([5, 1, 30, 0, 7] * 20 + [40, 200, 44])
    assert padding.as_one(ends, ends) is None
    blocks = [pair.queries for pair in padding.padded_pairs(ends, ends)]
    # A long one, two of 40 and 44, and the others with at most 2048 rows or 131 072 pairs.
    assert [block.segments for block in blocks] == [1, 64, 16, 2]
    assert [block.length for block in blocks] == [200, 30, 30, 44]
    packed = torch.arange(int(ends[-1]))
    rows = torch.cat([block.take(block.fill(packed)) for block in blocks])
    assert torch.equal(rows.sort().values, packed)


def test_a_few_short_segments_are_one_that_sees_its_own_keys_alone():
    pair = padding.as_one(offsets((2, 1)), offsets((1, 3)))
    assert pair.hidden[0].tolist() == [[False, True, True, True]] * 2 + [[True] + [False] * 3]
    # A query without keys has no softmax; a single segment is no block of several.
    assert padding.as_one(offsets((2, 1)), offsets((1, 0))) is None
    assert padding.as_one(offsets((2,)), offsets((1,))) is None


# Segments of one row and of none, and of more than a block of 16 on either side.
TRITON_CASES = {
    "keys in parts": {"heads": (2, 1), "queries": (0, 2), "keys": (1, 33)},
    "queries in parts": {"heads": (1, 1), "queries": (33,), "keys": (3,)},
    "no keys": {"heads": (3, 1), "queries": (17, 2), "keys": (20, 0), "widths": (17, 33)},
}
# The interpreter cuts the end of a bfloat16 off.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-5, torch.float16: 2**-8}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 rows, and of more than a block two parts or more."""
    blocks = {"BLOCK_I": 16, "BLOCK_J": 16, "num_warps": 4, "num_stages": 1}
    for module in (triton_forward, triton_backward):
        monkeypatch.setattr(module, "config", lambda *_: dict(blocks))
    monkeypatch.setattr(triton_forward, "MIN_ROWS", 17)


def triton_cases():
    """Each in each type; only two run where the interpreter is slow."""
    fast = {("keys in parts", torch.float32), ("queries in parts", torch.bfloat16)}
    return [
        pytest.param(name, dtype, marks=() if (name, dtype) in fast else SLOW_INTERPRETED)
        for dtype in TOLERANCE
        for name in TRITON_CASES
    ]


@pytest.mark.parametrize(("name", "dtype"), triton_cases())
def test_triton_values_and_gradients_are_those_of_the_reference(
    name, dtype, device, small_blocks, poisoned
):
    case = {**TRITON_CASES[name]}
    numbers, *segments = make(*case.pop("heads"), dtype, **case)
    exact = everything([number.double() for number in numbers], *segments, "reference")
    segments = [ends.to(device) for ends in segments]
    got = everything([number.to(device) for number in numbers], *segments, "triton")
    for number, (one, other) in enumerate(zip(got, exact, strict=True)):
        close = TOLERANCE[dtype] * max(1.0, other[other.isfinite()].abs().max().item())
        torch.testing.assert_close(
            one.cpu().double(), other, rtol=0, atol=close, msg=lambda m, n=number: f"{n}: {m}"
        )


def test_triton_gives_no_more_columns_than_it_has_registers_for(monkeypatch):
    numbers, *segments = make(1, 1, torch.float32, (2,), (3,), (129, 5))
    with pytest.raises(ValueError, match="heads of 129 columns: bag_attn in Triton takes 128"):
        attend(numbers, *segments, "triton")
    monkeypatch.setattr("mil.kernels.bag_attn.choose_backend", lambda *_: "triton")
    rows, _ = attend(numbers, *segments, "auto")
    exact, _ = attend([number.double() for number in numbers], *segments, "reference")
    torch.testing.assert_close(rows.double(), exact, rtol=1e-5, atol=1e-5)


def test_triton_takes_rows_of_several_types(device, small_blocks):
    """Under autocast a normalised row is float32 beside projections in half precision."""
    (q, k, v, bias), *segments = make(2, 1, torch.float32, (3,), (4,))
    given = [t.to(device) for t in (q.bfloat16(), k, v, *segments, bias.bfloat16())]
    rows, lse = bag_attn(*given, backend="triton")
    exact = [t.double() for t in (q.bfloat16(), k, v)]
    want, want_lse = bag_attn(*exact, *segments, bias.bfloat16().double())
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.cpu().double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse.cpu().double(), want_lse, rtol=1e-5, atol=1e-5)


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
