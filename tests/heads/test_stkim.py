"""STKIM's draws: on a CPU those of the published code, bag after bag; on a GPU all at once."""

import pytest
import torch

from mil.bags import MASKED
from mil.heads._stkim import draw_ranks, mask_top
from mil.kernels.topk_mask import topk_mask

SIZES = [30, 1, 7, 100, 3]
OFFSETS = torch.tensor([0, *SIZES]).cumsum(0)


def as_published(scores, top, share, most):
    """One draw per bag, of the bag's k; the ranks of its smallest draws are masked."""
    masked = []
    for bag in scores.split(SIZES):
        k = min(top, int(len(bag) * most))
        highest = bag.topk(k, dim=0).indices
        ranks = torch.rand(bag.shape[1], k).argsort(-1)[:, : int(k * share)].T
        masked.append(bag.scatter(0, highest.gather(0, ranks), MASKED))
    return torch.cat(masked)


@pytest.mark.parametrize(
    ("top", "share", "most"), [(10, 0.6, 1.0), (64, 0.3, 0.5), (10, 1.0, 0.1), (1, 0.6, 1.0)]
)
def test_on_a_cpu_the_draws_are_those_of_the_published_code(top, share, most):
    scores = torch.randn(sum(SIZES), 5, generator=torch.Generator().manual_seed(0))
    found = []
    for mask in (
        lambda: mask_top(scores, OFFSETS, top, share, most),
        lambda: as_published(scores, top, share, most),
    ):
        torch.manual_seed(7)
        found.append((mask(), torch.rand(3)))  # and what is drawn afterwards
    for got, want in zip(*found, strict=True):
        assert torch.equal(got, want)


def test_triton_masks_the_same_tiles(device):
    scores = torch.randn(sum(SIZES), 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    want = mask_top(scores, OFFSETS, 10, 0.6)
    torch.manual_seed(7)
    how = {"share": 0.6, "fill": MASKED, "backend": "triton"}
    got = topk_mask(
        *(t.to(device) for t in (scores, OFFSETS, draw_ranks(OFFSETS, 2, 10, 1.0))), **how
    )
    assert torch.equal(got.cpu(), want)


def test_draws_are_uniform_for_ranks_and_infinite_past_them():
    torch.manual_seed(0)
    draws = draw_ranks(OFFSETS, 2, 10, 1.0)
    assert draws.isfinite().sum(-1).tolist() == [[min(10, size)] * 2 for size in SIZES]
    assert draws[draws.isfinite()].mean().item() == pytest.approx(0.5, abs=0.1)


def test_elsewhere_they_are_drawn_at_once_without_asking_how_many_count():
    draws = draw_ranks(OFFSETS.to("meta"), 2, 10, 1.0)  # a device whose numbers nobody can ask for
    assert (draws.shape, draws.device.type) == ((5, 2, 10), "meta")
