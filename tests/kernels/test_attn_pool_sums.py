"""Sums of attention pooling, merged over chunks of tiles, and the gradient from them."""

import math

import pytest
import torch

from mil.kernels.attn_pool import triton_forward as forward
from mil.kernels.attn_pool.reference import attn_pool_with_stats_reference
from mil.kernels.attn_pool.sums import BagGradients, SoftmaxSums
from mil.kernels.attn_pool.triton_backward import attn_pool_backward
from mil.kernels.attn_pool.triton_forward import attn_pool_forward
from tests.kernels.packed import make

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def check_sums(scores, features, offsets):
    """Of one bag."""
    s = scores.double()
    x = features.double()
    z = s - s.amax(0)
    p = z.exp()
    wanted = p.T @ x, s.amax(0), p.sum(0), (p * z).sum(0), p.T @ p
    for name, got, want in zip(
        SoftmaxSums._fields, attn_pool_forward(scores, features, offsets), wanted, strict=True
    ):
        near = {"rtol": 1e-5, "atol": 2e-4}  # of hundreds of numbers around 1
        torch.testing.assert_close(
            got[0].double(), want, **near, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_sums_are_float32_whatever_the_features_are(dtype, device, poisoned):
    check_sums(*make([300], 40, 3, dtype, device, spread=0.1))


def test_a_bag_of_more_segments_than_are_merged_at_once(device, poisoned, monkeypatch):
    blocks = forward.config(torch.float32, 2, 40)
    monkeypatch.setattr(
        forward, "config", lambda *_: {**blocks, "merge": {**blocks["merge"], "BLOCK_G": 4}}
    )
    monkeypatch.setattr(forward, "MIN_ROWS", 2)
    monkeypatch.setattr(forward, "MAX_SEGMENTS", 1000)
    assert forward.rows_per_segment(19, 1) == 2
    scores, features, offsets = make([19], 40, 2, device=device)
    scores[15] += 30.0  # most of the segments are scaled down
    check_sums(scores, features, offsets)


def test_segments_are_few_however_many_tiles_there_are():
    for tiles in (1, 1000, 10**5, 10**6, 10**8):
        for columns in (1, 4, 20):
            rows = forward.rows_per_segment(tiles, columns)
            assert rows >= forward.MIN_ROWS
            assert tiles / rows <= 1024
    assert forward.rows_per_segment(10**6, 4) == 4096


def parts(scores, features, offsets, rows):
    """Tiles chunk by chunk, with the bags that they are of; in some chunks some bags have none."""
    for start in range(0, len(scores), rows):
        part = slice(start, start + rows)
        yield (
            scores[part],
            features[part],
            offsets.clamp(start, min(start + rows, len(scores))) - start,
            part,
        )


def test_chunk_by_chunk(device, poisoned):
    scores, features, offsets = make([3, 100, 40], 12, 2, device=device)
    scores[:, 0] -= torch.arange(143, device=device)  # tops fall, and rise
    scores[:, 1] += torch.arange(143, device=device)
    whole = attn_pool_forward(scores, features, offsets)
    found = None
    for s, x, bounds, _ in parts(scores, features, offsets, 37):
        sums = attn_pool_forward(s, x, bounds)
        empty = bounds.diff() == 0
        assert (sums.m[empty] == -math.inf).all()
        assert all((t[empty] == 0).all() for t in (sums.acc, sums.l, sums.pz, sums.pp))
        found = sums if found is None else found.merge(sums)
    for name, got, want in zip(SoftmaxSums._fields, found, whole, strict=True):
        torch.testing.assert_close(
            got, want, rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )

    draw = torch.Generator().manual_seed(2)
    upstream = [
        torch.randn(t.shape, generator=draw).to(device) for t in (whole.acc, *whole.stats())
    ]
    of = BagGradients.of(whole, *upstream)
    d_features = torch.empty_like(features)
    d_scores = attn_pool_backward(scores, features, offsets, of, d_features)
    for s, x, bounds, part in parts(scores, features, offsets, 37):
        written = torch.empty_like(x)
        torch.testing.assert_close(attn_pool_backward(s, x, bounds, of, written), d_scores[part])
        torch.testing.assert_close(written, d_features[part])


def test_the_closed_form_of_the_gradient_is_that_of_autograd():
    scores, features, offsets = (
        t.double() if t.is_floating_point() else t for t in make([9], 4, 3)
    )
    scores.requires_grad_(), features.requires_grad_()
    pooled, stats = attn_pool_with_stats_reference(scores, features, offsets)
    upstream = [
        torch.randn(t.shape, dtype=t.dtype, generator=torch.Generator().manual_seed(7))
        for t in (pooled, *stats)
    ]
    want = torch.autograd.grad((pooled, *stats), (scores, features), upstream)
    z = (scores - scores.amax(0)).detach()
    p = z.exp()
    x = features.detach()
    sums = SoftmaxSums(
        *(t[None] for t in (p.T @ x, scores.detach().amax(0), p.sum(0), (p * z).sum(0), p.T @ p))
    )
    of = BagGradients.of(sums, *upstream)
    log_p = z - of.log_l
    p = log_p.exp()
    d_scores = p * (x @ of.do[0].T + p @ of.d_gram_sym[0] - of.d_entropy * log_p - of.delta)
    torch.testing.assert_close((d_scores, p @ of.do[0]), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1e-7, 1e6], ids=str)
def test_gradients_that_half_precision_does_not_hold(size, device, poisoned):
    scores, features, offsets = make([70], 12, 2, torch.float16, device)
    scores[:, 0] -= 15 * torch.arange(70, device=device).remainder(
        2
    )  # attention of half of them around 1e-7
    sums = attn_pool_forward(scores, features, offsets)
    d_pooled = size * torch.randn(1, 2, 12, generator=torch.Generator().manual_seed(3)).to(device)
    d_pooled[0, 1] = (
        0  # so that the tiles' gradients are small where the first branch does not look
    )
    d_features = torch.empty_like(features) if size < 1 else None  # it would not hold those
    d_scores = attn_pool_backward(
        scores, features, offsets, BagGradients.of(sums, d_pooled), d_features
    )
    a = scores.double().softmax(0)
    x = features.double()
    p = d_pooled[0].double()
    dp = x @ p.T
    want = a * (dp - (a * dp).sum(0))
    torch.testing.assert_close(d_scores.double() / size, want / size, rtol=1e-3, atol=1e-9)
    if d_features is not None:
        torch.testing.assert_close(
            d_features.double(), a @ p, rtol=2e-3, atol=3e-8
        )  # half of the least that it holds
