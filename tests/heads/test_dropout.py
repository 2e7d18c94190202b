"""Dropout of the trunk: the fused operation is the layers one after another."""

import pytest
import torch

from mil.bags import join
from mil.heads import build_head
from mil.heads._dropout import Dropout
from mil.losses import total_loss

# Terms that read all parts of the output.
TERMS = {"abmil": [], "acmil": ["branch_cross_entropy"]}
TERMS |= {name: ["instance_cross_entropy"] for name in ("clam_sb", "clam_mb")}


def training_step(name):
    """Logits, scores and the gradient of each parameter of a step with dropout."""
    torch.manual_seed(0)
    head = build_head(name, {"hidden": 16, "dropout": 0.25}, dim=12, classes=2).train()
    bags = join([torch.randn(tiles, 12) for tiles in (40, 3, 17)])
    torch.manual_seed(1)
    out = head(bags)
    terms = dict.fromkeys(["cross_entropy", *TERMS[name]], 1.0)
    loss, _ = total_loss(terms, out, bags, torch.tensor([0, 1, 1]))
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in head.named_parameters()}
    return {"logits": out.logits, "scores": out.scores, **gradients}


@pytest.mark.parametrize("name", TERMS)
def test_the_fused_trunk_is_its_layers_with_the_same_draws(name, monkeypatch):
    fused = training_step(name)
    monkeypatch.setattr("mil.heads._gated.supports_dropout", lambda *_: False)
    layers = training_step(name)
    for key, want in layers.items():
        torch.testing.assert_close(fused[key], want, rtol=1e-4, atol=1e-6)


def test_the_layer_is_the_identity_outside_training():
    values = torch.randn(5, 4)
    layer = Dropout(0.5)
    assert torch.equal(layer.eval()(values), values)
    assert not torch.equal(layer.train()(values), values)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(torch.get_rng_state(), state)
