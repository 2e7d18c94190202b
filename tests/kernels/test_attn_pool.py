"""Attention pooling: the fast form against its meaning in float64, values and gradients."""

import pytest
import torch

from mil.bags import join
from mil.kernels.attn_pool import attn_pool

# one tile; under, on and over a block of 64; many blocks; dims off the block size; one branch and several
CASES = [([1], 1, 1), ([63, 64, 65], 64, 5), ([1, 300], 100, 2), ([5, 130, 2], 33, 3), ([200], 65, 16)]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def make(sizes, dim, branches, dtype, device):
    draw = torch.Generator().manual_seed(sum(sizes) + dim)
    features = [torch.randn(n, dim, generator=draw) for n in sizes]
    bags = join(features)
    scores = 3 * torch.randn(sum(sizes), branches, generator=draw)
    return scores.to(device), bags.features.to(device, dtype), bags.offsets.to(device)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("sizes", "dim", "branches"), CASES)
def test_triton_matches_reference_in_double(sizes, dim, branches, dtype, device, poisoned):
    scores, features, offsets = make(sizes, dim, branches, dtype, device)
    got = attn_pool(scores, features, offsets, backend="triton")
    want = attn_pool(scores.double(), features.double(), offsets, backend="reference")
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("sizes", "dim", "branches"), CASES)
def test_gradients_match_reference(sizes, dim, branches, device, poisoned):
    scores, features, offsets = make(sizes, dim, branches, torch.float32, device)
    upstream = torch.randn(len(sizes), branches, dim, generator=torch.Generator().manual_seed(1)).to(device)
    grads = {}
    for backend, dtype in {"triton": torch.float32, "reference": torch.float64}.items():
        s, f = (t.detach().clone().to(dtype).requires_grad_() for t in (scores, features))
        attn_pool(s, f, offsets, backend=backend).backward(upstream.to(dtype))
        grads[backend] = s.grad.double(), f.grad.double()
    for name, got, want in zip(("scores", "features"), grads["triton"], grads["reference"], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_masked_scores_have_no_weight_and_no_gradient(device, poisoned):
    scores, features, offsets = make([70], 8, 2, torch.float32, device)
    scores[3], scores[69] = -1e9, -1e9
    s = scores.clone().requires_grad_()
    pooled = attn_pool(s, features, offsets, backend="triton")
    kept = [i for i in range(70) if i not in (3, 69)]
    want = attn_pool(scores[kept], features[kept], torch.tensor([0, 68], device=device), backend="reference")
    torch.testing.assert_close(pooled, want, rtol=1e-5, atol=1e-6)
    pooled.square().sum().backward()
    assert s.grad[[3, 69]].abs().max() == 0


def test_a_bag_whose_scores_are_all_masked_is_averaged(device, poisoned):
    _, features, offsets = make([66], 8, 1, torch.float32, device)
    features.requires_grad_()
    pooled = attn_pool(torch.full((66, 1), -1e9, device=device), features, offsets, backend="triton")
    torch.testing.assert_close(pooled[0, 0], features.mean(0), rtol=1e-5, atol=1e-6)
    pooled.sum().backward()
    torch.testing.assert_close(features.grad, torch.full_like(features, 1 / 66))


def test_reference_gradcheck():
    scores, features, offsets = make([3, 4], 2, 2, torch.float64, "cpu")
    inputs = scores.double().requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, f: attn_pool(s, f, offsets), inputs)


def test_an_empty_bag_is_refused_where_bags_are_joined():
    with pytest.raises(ValueError, match="bag 2 of 3 has no tiles"):
        join([torch.ones(2, 3), torch.ones(0, 3), torch.ones(1, 3)])
