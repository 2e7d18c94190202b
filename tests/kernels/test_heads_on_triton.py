"""Heads on Triton's kernels: losses and gradients are those of the references."""

import pytest
import torch

from mil.bags import Bags, join
from mil.heads import UsesGraph, build_head, head_names
from mil.losses import total_loss
from tests.kernels.marks import SLOW_INTERPRETED

HEADS = sorted(
    set(head_names()) - {"gaam", "knn", "linear_probe", "max", "mean", "transmil"}
)  # which do not pool by attention
WITHOUT_STATS = {
    "acmil_mha",
    "dtfd",
}  # pooled branch by branch, or over parts of a bag: the losses go to the scores
TERMS = (
    "cross_entropy",
    "branch_cross_entropy",
    "branch_diversity",
    "attention_entropy",
    "attention_entropy_share",
)
CONSUMERS = (
    "attn_pool",
    "gated_scores",
    "neighbour_attn",
    "bag_attn",
    "window_attn",
)  # of `choose_backend`; what is masked stays drawn alike
SLOW = ("acmil_mha", "graph_select", "mixed_abmil")
SIZES = (5, 1, 12)
LABELS = torch.tensor([0, 2, 1])


def bags_on(device):
    draw = torch.Generator().manual_seed(0)
    features = [torch.randn(n, 16, generator=draw) for n in SIZES]
    coords = [torch.randint(5, (n, 2), generator=draw) * 224 for n in SIZES]
    return Bags(
        *(t.to(device) if isinstance(t, torch.Tensor) else t for t in join(features, coords))
    )


def losses(name, bags):
    """What a head gives; each term, and the gradient of each parameter."""
    torch.manual_seed(1)
    head = build_head(name, {}, dim=16, classes=3).to(bags.features.device)
    if isinstance(head, UsesGraph):
        head.see_training([bags])
    torch.manual_seed(2)  # of dropout and what is masked
    out = head(bags)
    total, parts = total_loss(dict.fromkeys(TERMS, 1.0), out, bags, LABELS.to(bags.features.device))
    parameters = {key: p for key, p in head.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
    return out, {**parts, **dict(zip(parameters, grads, strict=True))}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=SLOW_INTERPRETED if name in SLOW else ()) for name in HEADS],
)
def test_losses_and_gradients_are_those_of_the_references(name, device, monkeypatch):
    bags = bags_on(device)
    with monkeypatch.context() as patch:
        set_backend(patch, "reference")
        slow, want = losses(name, bags)
    set_backend(monkeypatch, "triton")
    fast, got = losses(name, bags)
    assert slow.attention_stats is None
    assert (fast.attention_stats is None) == (name in WITHOUT_STATS)
    torch.testing.assert_close(fast.logits, slow.logits, rtol=1e-4, atol=1e-5)
    for key in want:
        torch.testing.assert_close(
            got[key], want[key], rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
        )


def set_backend(patch, chosen):
    for module in CONSUMERS:
        patch.setattr(
            f"mil.kernels.{module}.choose_backend",
            lambda asked, *_: chosen if asked == "auto" else asked,
        )
