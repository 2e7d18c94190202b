"""Mixing layers before ABMIL: what they leave as it is, and what they are refused."""

import pytest
import torch

from mil.bags import Bags, join
from mil.errors import ConfigError
from mil.heads import build_head
from mil.losses import total_loss

LABELS = torch.tensor([0, 1, 0])


def bags(dim=16):
    draw = torch.Generator().manual_seed(0)
    features = [torch.randn(size, dim, generator=draw) for size in (4, 1, 7)]
    return join(features)


def built(**options):
    torch.manual_seed(3)
    return build_head("mixed_abmil", options, dim=16, classes=2)


def test_without_layers_it_is_abmil_bit_by_bit():
    torch.manual_seed(3)
    plain = build_head("abmil", {}, dim=16, classes=2)
    mixed = built(layers=0)
    mixed.load_state_dict(plain.state_dict())
    for one, other in zip(plain.eval()(bags())[:2], mixed.eval()(bags())[:2], strict=True):
        assert torch.equal(one, other)


def test_the_width_is_rounded_up_to_a_multiple_of_the_heads():
    assert built(mix={"attention": "full", "heads": 6}).classify.in_features == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": 10}, r"hidden must be a multiple of heads \(8\), not 10"),
        ({"mix": {"attention": "fulll"}}, "fulll"),
        ({"mix": {"attention": "agent", "cell": 3}}, "cell"),
        ({"mix": {"attention": "full", "query_heads": 3, "key_heads": 2}}, "multiple of key_heads"),
        ({"mix": {"attention": "full", "shared": 2}}, "needs routed heads"),
        ({"mix": {"attention": "full", "shared": 2, "routed": 7}}, "at most 6 heads"),
        ({"mix": {"attention": "full", "heads": 4, "key_heads": 2, "collapse": True}}, "collapse"),
        ({"mix": {"attention": "neighbourhood", "window": 4}}, "window: must be odd"),
        ({"mix": {"attention": "neighbourhood", "stride": 9}}, "stride: must be odd"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options, words):
    with pytest.raises(ConfigError, match=words) as error:
        built(**options)
    assert "\n" not in str(error.value)


def test_routed_heads_are_balanced_by_a_loss_term():
    head = built(mix={"attention": "full", "heads": 4, "routed": 2, "shared": 1})
    output = head(bags())
    loss, _ = total_loss({"head_balance": 1.0}, output, bags(), LABELS)
    assert loss.item() == pytest.approx(output.head_balance.mean().item() - 1)
    loss.backward()
    assert head.layers[0].router.gate.weight.grad.abs().max() > 0
    # Nothing adds up between steps.
    assert torch.equal(head.eval()(bags()).head_balance, head(bags()).head_balance)


def test_a_balance_without_routing_is_refused():
    with pytest.raises(ConfigError, match="head_balance: needs an output"):
        total_loss({"head_balance": 1.0}, built()(bags()), bags(), LABELS)


def test_collapsed_layers_have_a_quarter_of_the_parameters():
    def parameters(collapse):
        head = built(mix={"attention": "full", "heads": 2, "collapse": collapse})
        return sum(p.numel() for p in head.layers[0].parameters()) - 2 * 8

    assert parameters(True) == 8 * 8
    assert parameters(False) == 4 * 8 * 8 + 8


def test_context_reaches_a_tile_and_no_other_bag():
    head = built(mix={"attention": "uniform"}).eval()
    whole = bags()
    changed = Bags(whole.features.clone(), whole.offsets)
    changed.features[0] += 1
    before, after = head(whole), head(changed)
    # Of the first bag all tiles, of the others none.
    assert (before.scores != after.scores)[:4].all()
    assert torch.equal(before.scores[4:], after.scores[4:])


def test_samples_of_hyper_attention_are_the_same_at_every_prediction_and_saved():
    options = {"attention": "hyper", "heads": 2, "exact_below": 0, "block": 2, "samples": 2}
    head = built(mix=options)
    assert "layers.0.mix.directions" in head.state_dict()
    head.eval()
    assert torch.equal(head(bags()).logits, head(bags()).logits)
    drawn = [head.train()(bags()).scores for _ in range(2)]
    assert not torch.equal(*drawn)
