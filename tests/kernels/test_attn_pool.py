"""Attention pooling and its statistics: Triton against the reference in float64."""

import math

import pytest
import torch

from mil.bags import join
from mil.kernels import attn_pool as public
from mil.kernels.attn_pool import attn_pool, attn_pool_with_stats, uses_triton
from tests.kernels.marks import cases_in_types
from tests.kernels.packed import make

# One tile; under, on and over a block of 64 and a piece of 128 rows; one long bag
# beside short ones; dims off the blocks of 32 and 128, and over them; one branch,
# several, as many as a block has, and more.
CASES = [
    ([1], 1, 1),
    ([63, 64, 65], 64, 5),
    ([127, 128, 129], 33, 3),
    ([300, 1, 2, 2, 2], 24, 2),
    ([70], 129, 5),
    ([130], 8, 16),
    ([70, 1], 20, 17),
    ([40], 24, 40),
]
NAMES = ("pooled", "log_total", "entropy", "products", "d_scores", "d_features")
ROUNDING = {
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}  # of what is given back in that type
HALVES = {
    torch.float32: 1e-5,
    torch.float16: 1e-5,
    torch.bfloat16: 5e-5,
}  # of a number in two of that type


def run(scores, features, offsets, backend, wanted=range(4)):
    """Pooled rows, statistics, and gradients from random ones of some outputs, float64."""
    s, f = (t.detach().clone().requires_grad_() for t in (scores, features))
    pooled, stats = attn_pool_with_stats(s, f, offsets, backend=backend)
    assert pooled.dtype == features.dtype
    found = (pooled, *stats)
    draw = torch.Generator().manual_seed(1)
    # Rounded alike, whatever the type: what is asked of both is the same.
    upstream = [torch.randn(t.shape, generator=draw).bfloat16().to(t) for t in found]
    asked = [found[i] for i in wanted], (s, f), [upstream[i] for i in wanted]
    return [
        t.detach().double() for t in (*found, *torch.autograd.grad(*asked, materialize_grads=True))
    ]


def check(scores, features, offsets, exact=None, wanted=range(4)):
    """`exact`: tolerance of float32 results; one rounding to half precision exceeds it."""
    exact = exact or HALVES[features.dtype]
    got = run(scores, features, offsets, "triton", wanted)
    want = run(scores.double(), features.double(), offsets, "reference", wanted)
    for name, ours, theirs in zip(NAMES, got, want, strict=True):
        near = ROUNDING[features.dtype] if name in ("pooled", "d_features") else exact
        atol = near * max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(
            ours, theirs, rtol=near, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize(
    ("sizes", "dim", "branches", "dtype"), cases_in_types(CASES, ROUNDING), ids=str
)
def test_triton_matches_reference_in_double(sizes, dim, branches, dtype, device, poisoned):
    check(*make(sizes, dim, branches, dtype, device))


@pytest.mark.parametrize("scale", [80.0, 1e4], ids=str)
def test_scores_far_apart(scale, device, poisoned):
    scores, features, offsets = make([150, 3], 16, 3, device=device)
    check(scores.sign() * scale + scores, features, offsets, exact=2e-4 if scale > 100 else None)


@pytest.mark.parametrize("wanted", [[0], [1], [2], [3], [2, 3]], ids=str)
def test_gradients_of_some_outputs_alone(wanted, device, poisoned):
    check(*make([20, 70], 12, 3, device=device), wanted=wanted)


def test_scores_alone_have_a_gradient(device, poisoned):
    scores, features, offsets = make([20, 70], 12, 3, device=device)
    s = scores.clone().requires_grad_()
    attn_pool(s, features, offsets, backend="triton").square().sum().backward()
    want = scores.double().requires_grad_()
    attn_pool(want, features.double(), offsets, backend="reference").square().sum().backward()
    torch.testing.assert_close(s.grad.double(), want.grad, rtol=1e-5, atol=1e-6)


def test_what_is_not_contiguous(device, poisoned):
    given = make([20, 70], 24, 3, device=device)
    found = []
    for layout in (crossed, torch.clone):
        s, f = (layout(t).requires_grad_() for t in given[:2])
        pooled, stats = attn_pool_with_stats(s, f, given[2], backend="triton")
        draw = torch.Generator().manual_seed(1)
        upstream = [
            layout(torch.randn(t.shape, generator=draw).to(device)) for t in (pooled, *stats)
        ]
        found.append((pooled, *stats, *torch.autograd.grad((pooled, *stats), (s, f), upstream)))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def crossed(tensor):
    """The same numbers, the first axis innermost."""
    found = tensor.movedim(0, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 0)
    assert not found.is_contiguous()
    return found


def test_scores_in_half_precision(device, poisoned):
    scores, features, offsets = make([20, 70], 12, 3, torch.bfloat16, device)
    s = scores.bfloat16().requires_grad_()
    pooled = attn_pool(s, features, offsets, backend="triton")
    want = attn_pool(s.double(), features.double(), offsets, backend="reference")
    torch.testing.assert_close(pooled.double(), want, rtol=2e-2, atol=2e-2)
    pooled.sum().backward()
    assert s.grad.dtype == torch.bfloat16


def test_masked_scores_have_no_weight_and_no_gradient(device, poisoned):
    scores, features, offsets = make([70], 8, 2, device=device)
    scores[3], scores[69], scores[5, 1] = -1e9, -1e9, -1e9
    s = scores.clone().requires_grad_()
    pooled, stats = attn_pool_with_stats(s, features, offsets, backend="triton")
    kept = [i for i in range(70) if i not in (3, 69)]
    alone = torch.tensor([0, 68], device=device)
    want, of_kept = attn_pool_with_stats(scores[kept], features[kept], alone, backend="reference")
    for ours, theirs in zip((pooled, *stats), (want, *of_kept), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    sum(t.square().sum() for t in (pooled, *stats)).backward()
    assert s.grad[[3, 69]].abs().max() == 0
    assert s.grad[5, 1] == 0
    assert torch.isfinite(s.grad).all()


def test_a_bag_whose_scores_are_all_masked_is_averaged(device, poisoned):
    _, features, offsets = make([266], 8, 2, device=device)
    features.requires_grad_()
    masked = torch.full((266, 2), -1e9, device=device)
    pooled, stats = attn_pool_with_stats(masked, features, offsets, backend="triton")
    torch.testing.assert_close(pooled[0, 0], features.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stats.entropy, torch.full_like(stats.entropy, math.log(266)))
    torch.testing.assert_close(stats.products, torch.full_like(stats.products, 1 / 266))
    assert (stats.log_total == -1e9).all()
    pooled.sum().backward()
    torch.testing.assert_close(features.grad, torch.full_like(features, 2 / 266))


def test_the_same_bits_twice(device):
    scores, features, offsets = make([300, 5], 40, 5, torch.bfloat16, device)
    first, again = (run(scores, features, offsets, "triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_reference_gradcheck():
    scores, features, offsets = make([3, 4], 2, 2, torch.float64)
    inputs = scores.double().requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, f: attn_pool(s, f, offsets), inputs)

    def all_of(s, f):
        pooled, stats = attn_pool_with_stats(s, f, offsets)
        return pooled, *stats

    assert torch.autograd.gradcheck(all_of, inputs)


def test_reference_statistics_by_hand():
    scores = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [5.0, 7.0]], dtype=torch.float64)
    _, stats = attn_pool_with_stats(scores, torch.ones(3, 1), torch.tensor([0, 2, 3]))
    entropy = math.log(4) - 0.75 * math.log(3)  # of 1/4 and 3/4
    torch.testing.assert_close(
        stats.log_total, torch.tensor([[math.log(4), math.log(2)], [5.0, 7.0]]).double()
    )
    torch.testing.assert_close(
        stats.entropy, torch.tensor([[entropy, math.log(2)], [0.0, 0.0]]).double()
    )
    want = torch.tensor([[[10 / 16, 1 / 2], [1 / 2, 1 / 2]], [[1.0, 1.0], [1.0, 1.0]]])
    torch.testing.assert_close(stats.products, want.double())


def test_what_triton_does_not_take(monkeypatch):
    scores, features, offsets = make([3], 2, 65)
    with pytest.raises(
        ValueError,
        match=r"at most 64 branches in fp16, bf16 or fp32; got 65 branches of torch\.float32",
    ):
        attn_pool(scores, features, offsets, backend="triton")
    with pytest.raises(ValueError, match=r"got 1 branches of torch.float64"):
        attn_pool(scores[:, :1], features.double(), offsets, backend="triton")
    monkeypatch.setattr(public, "choose_backend", lambda *_: "triton")  # as on a GPU
    assert not uses_triton(scores, features)
    assert uses_triton(scores[:, :64], features)


def test_an_empty_bag_is_refused_where_bags_are_joined():
    with pytest.raises(ValueError, match="bag 2 of 3 has no tiles"):
        join([torch.ones(2, 3), torch.ones(0, 3), torch.ones(1, 3)])
