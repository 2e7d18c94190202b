"""Mixing layers before ABMIL: what they leave as it is, and what they are refused."""

import pytest
import torch

from mil.bags import Bags, join
from mil.errors import ConfigError
from mil.heads import build_head
from mil.heads._mix_layer import received
from mil.heads._mixers.base import Places, Rows
from mil.kernels.bag_attn import bag_attn
from mil.losses import total_loss
from tests.heads.waves import assert_rows, wave

# fmt: off
ROLLOUT = [
    0.128216769466, 0.162687925258, 0.185408709856, 0.161289810729, 0.127537385205,
    0.113858054964, 0.121001344522,
]
# fmt: on
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


def test_context_is_scaled():
    head = built(mix={"attention": "full"}).eval()
    layer = head.layers[0]
    places = Places(bags().offsets, None)
    tiles = head.reduce(bags().features)
    by_one = layer(tiles, places).tiles
    layer.context_scale = 0.25
    by_quarter = layer(tiles, places).tiles
    torch.testing.assert_close(by_quarter - tiles, (by_one - tiles) / 4)
    assert built(context_scale=0.5).layers[0].context_scale == 0.5


def test_samples_of_hyper_attention_are_the_same_at_every_prediction_and_saved():
    options = {"attention": "hyper", "heads": 2, "exact_below": 0, "block": 2, "samples": 2}
    head = built(mix=options)
    assert "layers.0.mix.directions" in head.state_dict()
    head.eval()
    assert torch.equal(head(bags()).logits, head(bags()).logits)
    drawn = [head.train()(bags()).scores for _ in range(2)]
    assert not torch.equal(*drawn)


def test_rollout_of_agent_maps_is_the_golden_one():
    q, k = (wave(number, 2, 7, 4).transpose(0, 1) for number in range(2))
    agents = wave(2, 2, 3, 4).transpose(0, 1)
    whole, few = torch.tensor([0, 7]), torch.tensor([0, 3])

    def mix(rows):
        gathered, _ = bag_attn(agents, rows.keys, rows.values, few, whole)
        return bag_attn(rows.queries, agents, gathered, whole, few)[0]

    attention = wave(3, 7).softmax(0)
    rolled = (attention + received(attention, mix, Rows(q, k, k))) / 2
    assert_rows(rolled, ROLLOUT)


MIXES = [
    {"attention": "full", "heads": 2},
    {"attention": "full", "heads": 4, "query_heads": 4, "key_heads": 2},
    {"attention": "full", "heads": 4, "routed": 2, "shared": 1},
    {"attention": "dynamic_mask", "heads": 2, "keep": 3},
    {"attention": "landmark", "heads": 2},
]


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_rollout_is_that_of_the_explicit_maps(mix, scale):
    head = built(layers=2, mix=mix, context_scale=scale).eval()
    whole = bags()
    alone = Bags(whole.features[5:], torch.tensor([0, 7]))
    with torch.inference_mode():
        rolled = head.rollout(alone)
        torch.testing.assert_close(rolled, head.rollout(whole)[5:])
    tiles, maps = head.reduce(alone.features), []
    places = Places(alone.offsets, None)
    for layer in head.layers:
        maps.append(explicit_map(layer, tiles, places))
        tiles = layer(tiles, places).tiles
    attention = head.attention(tiles)[:, 0].softmax(0)
    for of_layer in reversed(maps):
        attention = (attention + scale * (attention @ of_layer)) / (1 + scale)
    torch.testing.assert_close(rolled, attention)
    assert rolled.sum().item() == pytest.approx(1, abs=1e-5)


def explicit_map(layer, tiles, places):
    """Mean map of the heads [tiles, tiles], column by column."""
    normal = layer.norm(tiles)
    rows = layer.rows(normal)
    weights = torch.ones(len(tiles), rows.queries.shape[1])
    if layer.router is not None:
        weights = layer.router(normal)
    columns = []
    for tile in range(len(tiles)):
        values = torch.zeros_like(rows.values)
        values[tile] = 1
        mixed = layer.mix(Rows(rows.queries, rows.keys, values, rows.values), places)
        columns.append((mixed[..., 0] * weights).sum(1) / weights.sum(1))
    return torch.stack(columns, 1)
