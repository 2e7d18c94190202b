"""The head over a neighbour graph on a GPU: Triton gives the same, and the host hardly waits."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mil.bags import join, join_graphs, per_bag
from mil.heads import build_head
from mil.kernels.neighbour_attn.function import NeighbourAttnFunction
from mil.losses import total_loss

SIZES = [14, 1, 7]
LOSSES = {
    "cross_entropy": 1.0,
    "full_cross_entropy": 0.5,
    "branch_cross_entropy": 1.0,
    "branch_diversity": 1.0,
    "attention_entropy": 0.1,
    "attention_entropy_share": 0.1,
    "sufficiency": 0.3,
}


def learning(device, **options):
    """A head in training, and bags with the graph made beforehand."""
    torch.manual_seed(0)
    options = {"hidden": 10, "attention": 6, "heads": 2, "layers": 2, "keep_least": 3, **options}
    head = build_head("graph_select", options, dim=12, classes=2).train()
    torch.nn.init.normal_(head.received)
    draw = torch.Generator().manual_seed(1)
    bags = join([1 + torch.randn(size, 12, generator=draw) for size in SIZES])
    graphs = [head.build_graph(bag, None) for bag in per_bag(bags.features, bags.offsets)]
    bags = bags._replace(graph=join_graphs(graphs, SIZES))
    labels = torch.tensor([1, 0, 1])
    given = (bags.features, bags.offsets, bags.graph, labels)
    features, offsets, graph, labels = (
        type(part)(*(t.to(device) for t in part)) if isinstance(part, tuple) else part.to(device)
        for part in given
    )
    return head.to(device), bags._replace(features=features, offsets=offsets, graph=graph), labels


def step(head, bags, labels, losses=LOSSES):
    """Every loss, the scores, and the gradient of every parameter."""
    out = head(bags)
    total, terms = total_loss(losses, out, bags, labels)
    total.backward()
    grads = {name: parameter.grad.clone() for name, parameter in head.named_parameters()}
    head.zero_grad()
    return {"scores": out.scores.detach(), "logits": out.logits.detach()} | terms | grads


@pytest.mark.slow
def test_triton_gives_the_same_losses_and_gradients(monkeypatch, device):
    options = {"branches": 3, "drop_edges": 0.0}
    want = step(*learning("cpu", **options))
    launched = []
    apply = NeighbourAttnFunction.apply
    monkeypatch.setattr(
        NeighbourAttnFunction, "apply", lambda *given: launched.append(1) or apply(*given)
    )
    choosers = [module for name, module in sys.modules.items() if name.startswith("mil.kernels.")]
    for module in [
        module
        for module in choosers
        if hasattr(module, "choose_backend") and module.__name__[-8:] != ".backend"
    ]:
        monkeypatch.setattr(module, "choose_backend", lambda *_: "triton")
    got = step(*learning(device, **options))
    assert len(launched) == 2  # a layer each
    assert got.keys() == want.keys()
    for name, right in want.items():
        assert name == "scores" or right.abs().max() > 1e-6, (
            name
        )  # nothing is equal because it is nothing
        torch.testing.assert_close(
            got[name].cpu(), right, rtol=1e-4, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


class Waits(TorchDispatchMode):
    """Remembers the operations for which a GPU would be waited for."""

    ALWAYS = (
        "nonzero",
        "_local_scalar_dense",
        "bincount",
        "masked_select",
        "_unique2",
        "unique_consecutive",
    )

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.partition(".")[0]
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in self.ALWAYS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_of_training_asks_the_device_only_which_edges_are_left():
    """And how long the bags are, by `tolist`, which leaves no trace here."""
    head, bags, labels = learning("cpu")
    with Waits() as waits:
        step(head, bags, labels, {"cross_entropy": 1.0, "full_cross_entropy": 0.5})
    assert waits.found == ["nonzero"]


@pytest.mark.parametrize("asks", [lambda t: t[t > 0], torch.nonzero, lambda t: t.sum().item()])
def test_waits_are_seen(asks):
    with Waits() as waits:
        asks(torch.ones(3))
    assert len(waits.found) == 1
