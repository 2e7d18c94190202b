"""Masking of the highest scores: in Triton exactly what it means, whatever the scores."""

from itertools import pairwise

import pytest
import torch

from mil.kernels.topk_mask import topk_mask, triton
from mil.kernels.topk_mask.reference import num_ranked

FILL = -1e9
BACKENDS = ("reference", "triton")
# sizes, branches, top, share, most: one tile; under, on and over a piece of 4; more
# ranks than tiles; few, none, all
CASES = [
    ([1], 1, 1, 1.0, 1.0),
    ([1], 2, 10, 0.6, 1.0),
    ([3, 4, 5], 3, 2, 0.5, 1.0),
    ([30, 1, 9], 2, 10, 0.6, 1.0),
    ([7, 20], 1, 64, 0.25, 1.0),
    ([40, 3], 2, 10, 1.0, 0.1),
    ([12], 2, 5, 0.0, 1.0),
    ([12, 2], 2, 5, 1.0, 1.0),
    ([12], 2, 5, 1.0, 0.0),
]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(triton, "ROWS", 4)
    monkeypatch.setattr(triton, "BLOCK_C", 8)


def make(sizes, branches, top, device):
    draw = torch.Generator().manual_seed(sum(sizes) + top)
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    scores = torch.randn(sum(sizes), branches, generator=draw)
    draws = torch.rand(len(sizes), branches, top, generator=draw)
    return scores.to(device), offsets.to(device), draws.to(device)


def everything(scores, offsets, draws, **how):
    """Masked scores, and the gradient for an upstream one without zeros."""
    leaf = scores.detach().clone().requires_grad_()
    masked = topk_mask(leaf, offsets, draws, fill=FILL, **how)
    masked.backward(
        torch.arange(1.0, scores.numel() + 1, device=scores.device).view(scores.shape).to(scores)
    )
    return masked.detach().cpu(), leaf.grad.cpu()


def by_sorting(scores, offsets, draws, share, max_share=1.0):
    """Masked scores by Python's sorting: of equal scores or draws the first."""
    hidden = torch.zeros_like(scores, dtype=torch.bool)
    for bag, (first, last) in enumerate(pairwise(offsets.tolist())):
        k = num_ranked(last - first, draws.shape[-1], max_share)
        for branch in range(scores.shape[1]):
            column = scores[:, branch].tolist()
            drawn = draws[bag, branch].tolist()
            rows = sorted(range(first, last), key=lambda row, of=column: (-of[row], row))
            for rank in sorted(range(k), key=lambda rank, of=drawn: (of[rank], rank))[
                : int(k * share)
            ]:
                hidden[rows[rank], branch] = True
    return hidden


def assert_masked(got, scores, hidden):
    masked, grad = got
    assert torch.equal(masked, scores.masked_fill(hidden, FILL))
    upstream = torch.arange(1.0, scores.numel() + 1).view(scores.shape)
    assert torch.equal(grad, upstream.masked_fill(hidden, 0.0))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exactly_the_ranks_of_the_smallest_draws_are_masked(
    case, backend, device, small_pieces, poisoned
):
    sizes, branches, top, share, most = case
    given = make(sizes, branches, top, device)
    scores, offsets, draws = (t.cpu() for t in given)
    hidden = by_sorting(scores, offsets, draws, share, most)
    counts = [int(min(top, int(size * most)) * share) for size in sizes]
    assert [bag.sum(0).tolist() for bag in hidden.split(sizes)] == [
        [count] * branches for count in counts
    ]
    assert_masked(everything(*given, share=share, max_share=most, backend=backend), scores, hidden)


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend, device):
    """Two bags of 3 ranks, the 2 smallest draws: third and first, then first and second."""
    scores = torch.tensor(
        [[5.0], [1.0], [9.0], [7.0], [-1.0], [-3.0], [-2.0], [-4.0]], device=device
    )
    draws = torch.tensor([[[0.2, 0.9, 0.1]], [[0.3, 0.4, 0.5]]], device=device)
    offsets = torch.tensor([0, 4, 8], device=device)
    masked = topk_mask(scores, offsets, draws, share=0.67, fill=FILL, backend=backend)
    assert masked[:, 0].tolist() == [FILL, 1.0, FILL, 7.0, FILL, -3.0, FILL, -4.0]


def test_a_piece_of_the_usual_size_and_more(device, poisoned):
    given = make([triton.ROWS - 1, 2 * triton.ROWS + 3, 5], 2, 7, device)
    scores, offsets, draws = (t.cpu() for t in given)
    got = everything(*given, share=0.6, backend="triton")
    assert_masked(got, scores, by_sorting(scores, offsets, draws, 0.6))


@pytest.mark.parametrize(
    "values", [[0.5], [0.0, -0.0], [-1e9, -torch.inf, 3.0], [torch.inf, -1e9], [-1e-42, 1e-42, 0]]
)
def test_of_equal_scores_the_lower_row_ranks_first(values, device, small_pieces, poisoned):
    """Also zeros of both signs, infinite, masked and subnormal scores."""
    _, offsets, draws = make([14, 3, 1], 2, 6, device)
    pick = torch.randint(len(values), (18, 2), generator=torch.Generator().manual_seed(1))
    scores = torch.tensor(values)[pick]
    hidden = by_sorting(scores, offsets.cpu(), draws.cpu(), 0.5)
    assert_masked(
        everything(scores.to(device), offsets, draws, share=0.5, backend="triton"), scores, hidden
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_draws_the_first_counts_as_smaller(backend, device):
    scores, offsets, _ = make([8], 1, 5, device)
    draws = torch.tensor([[[0.5, 0.1, 0.5, 0.5, 0.7]]], device=device)
    hidden = topk_mask(scores, offsets, draws, share=0.6, fill=FILL, backend=backend) == FILL
    best = scores[:, 0].argsort(descending=True)
    assert set(hidden[:, 0].nonzero()[:, 0].tolist()) == set(best[[0, 1, 2]].tolist())


@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_past_the_ranks_of_a_bag_are_not_looked_at(backend, device, small_pieces):
    scores, offsets, draws = make([4, 9], 2, 6, device)
    want = everything(scores, offsets, draws, share=0.5, backend=backend)
    for other in (-1.0, torch.inf, torch.nan):
        draws[0, :, 4:] = other
        got = everything(scores, offsets, draws, share=0.5, backend=backend)
        assert all(torch.equal(*both) for both in zip(got, want, strict=True))


@pytest.mark.parametrize("top", [1, 10, 64])
def test_counts_on_the_device_are_those_of_python(top, device):
    sizes = range(1, 301)
    offsets = torch.tensor([0, *sizes]).cumsum(0).to(device)
    for percent in range(101):
        share = percent / 100
        for most in (share, 1.0):
            k, masked = (count.tolist() for count in triton.counts(offsets, top, share, most))
            assert k == [num_ranked(size, top, most) for size in sizes]
            assert masked == [int(of * share) for of in k]


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_do_not_lie_end_to_end(backend, device, small_pieces):
    scores, offsets, draws = make([9, 5], 3, 4, device)
    apart = scores.T.contiguous().T, offsets, draws.transpose(1, 2).contiguous().transpose(1, 2)
    assert not apart[0].is_contiguous()
    for got, want in zip(
        *(everything(*of, share=0.5, backend=backend) for of in (apart, (scores, offsets, draws))),
        strict=True,
    ):
        assert torch.equal(got, want)


def test_two_runs_give_the_same_bits_and_leave_the_scores_alone(device, small_pieces):
    scores, offsets, draws = make([30, 9], 2, 5, device)
    before = scores.clone()
    first, second = (
        everything(scores, offsets, draws, share=0.6, backend="triton") for _ in range(2)
    )
    assert all(torch.equal(*both) for both in zip(first, second, strict=True))
    assert torch.equal(scores, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_ranks_nothing_is_masked(backend, device):
    scores, offsets, draws = make([4, 2], 2, 0, device)
    assert torch.equal(
        topk_mask(scores, offsets, draws, share=1.0, fill=FILL, backend=backend), scores
    )


def test_nobody_waits_for_the_device(monkeypatch, device, small_pieces):
    given = make([30, 9], 2, 5, device)

    def refuse(*_):
        raise AssertionError("a number of the device's is asked for")

    for name in ("tolist", "item", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    everything(*given, share=0.6, backend="triton")
    with pytest.raises(AssertionError, match="asked for"):
        everything(*given, share=0.6, backend="reference")


def test_reference_gradcheck():
    scores, offsets, draws = make([5, 3], 2, 3, "cpu")
    assert torch.autograd.gradcheck(
        lambda s: topk_mask(s, offsets, draws, share=0.7, fill=0.0),
        scores.double().requires_grad_(),
    )


def test_a_gradient_of_the_gradient_is_refused(device):
    scores, offsets, draws = make([5], 1, 3, device)
    masked = topk_mask(
        scores.requires_grad_(), offsets, draws, share=0.7, fill=FILL, backend="triton"
    )
    (grad,) = torch.autograd.grad(masked.square().sum(), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
