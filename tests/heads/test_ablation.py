"""Branches left out one at a time: each head against its own parts, put together by hand."""

import pytest
import torch

from mil.bags import join, log_attention
from mil.heads import AblatesBranches, build_head
from mil.heads._ablation import Ablated
from mil.heads._mixers.base import Places
from mil.trained.ablation import ablation_of
from mil.trained.assembled import assemble

DIM, TILES = 8, 7
BRANCHED = {
    "acmil": {"hidden": 6, "branches": 3},
    "acmil_mha": {"hidden": 6, "branches": 3, "heads": 2},
    "clam_mb": {"hidden": 6},
    "gaam": {"gaussians": 3},
    "graph_select": {"hidden": 6, "branches": 3, "layers": 0},
    "lama": {"hidden": 6, "branches": 3},
    "mha": {"hidden": 6, "heads": 3},
    "mixed_abmil": {"hidden": 6, "layers": 2, "mix": {"attention": "full", "heads": 3}},
    "probe": {"queries": 4},
}


def built(name, seed=0, **options):
    torch.manual_seed(seed)
    head = build_head(name, BRANCHED.get(name, {}) | options, dim=DIM, classes=3).double().eval()
    with torch.no_grad():
        # Queries of some heads begin alike.
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return head


@pytest.fixture
def bags():
    generator = torch.Generator().manual_seed(1)
    return join([torch.randn(n, DIM, generator=generator).double() for n in (TILES, 3)])


@pytest.mark.parametrize("name", BRANCHED)
@torch.no_grad()
def test_with_all_branches_logits_are_those_of_the_head(bags, name):
    head = built(name)
    found = head.ablated(bags)
    assert isinstance(head, AblatesBranches)
    torch.testing.assert_close(found.whole, head(bags).logits)
    assert found.without.shape == (2, found.attention.shape[1], 3)
    sums = found.attention[:TILES].sum(0)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    # Each branch does something, and no two the same.
    lost = (found.without - found.whole[:, None])[0]
    assert lost.abs().amax(1).min() > 1e-6
    assert torch.pdist(lost).min() > 1e-6


@pytest.mark.parametrize("name", ["acmil", "graph_select"])
@torch.no_grad()
def test_a_bag_without_a_branch_is_the_mean_of_the_others(bags, name):
    head = built(name, **({"keep_share": 1.0} if name == "graph_select" else {}))
    hidden = head.reduce(bags.features)
    weights = log_attention(head.attention(hidden), bags.offsets).exp()[:TILES]
    rows = weights.T @ hidden[:TILES]
    expected = head.classify(torch.stack([rows[[1, 2]], rows[[0, 2]], rows[[0, 1]]]).mean(1))
    found = head.ablated(bags)
    torch.testing.assert_close(found.without[0], expected)
    torch.testing.assert_close(found.attention[:TILES], weights)


@torch.no_grad()
def test_a_branch_of_several_heads_takes_them_all_with_it(bags):
    head = built("acmil_mha")
    rows = head.pool(bags).rows[0].unflatten(0, (3, 2))
    expected = head.classify(head.values(rows[[0, 2]].mean(0)[None]))
    found = head.ablated(bags)
    torch.testing.assert_close(found.without[0, 1], expected[0])
    by_head = log_attention(head.pool(bags).scores, bags.offsets).exp()
    torch.testing.assert_close(found.attention[:, 1], by_head[:, 2:4].mean(1))


@torch.no_grad()
def test_a_class_without_its_attention_is_pooled_by_that_of_the_others(bags):
    head = built("clam_mb")
    rows = head.pool(bags).rows
    found = head.ablated(bags)
    torch.testing.assert_close(found.without[:, 1, [0, 2]], found.whole[:, [0, 2]])
    of_others = head.classify[1](rows[:, [0, 2]].mean(1))
    torch.testing.assert_close(found.without[:, 1, 1:2], of_others)


@torch.no_grad()
def test_a_query_left_out_has_no_values(bags):
    head = built("probe")
    found = head.ablated(bags)
    head.values.weight.unflatten(0, (4, -1))[2] = 0
    torch.testing.assert_close(found.without[:, 2], head(bags).logits)


@torch.no_grad()
def test_an_attention_head_left_out_has_neither_values_nor_their_bias(bags):
    head = built("mha")
    found = head.ablated(bags)
    for parameter in (head.values.value.weight, head.values.value.bias):
        parameter.unflatten(0, (3, -1))[1] = 0
    torch.testing.assert_close(found.without[:, 1], head(bags).logits)


@pytest.mark.parametrize(
    "mix",
    [
        {"attention": "full", "heads": 3},
        {"attention": "full", "heads": 6, "query_heads": 4, "key_heads": 2},
        {"attention": "full", "heads": 3, "routed": 1, "shared": 1},
    ],
    ids=str,
)
@torch.no_grad()
def test_a_head_of_a_mixing_layer_brings_nothing_and_reads_by_its_own_map(bags, mix):
    head = built("mixed_abmil", mix=mix)
    found = head.ablated(bags)
    layer, bag = head.layers[1], join([bags.features[:TILES]])
    heads = layer.shape.query_heads
    before = head.layers[0](head.reduce(bag.features), Places(bag.offsets, None)).tiles
    normal = layer.norm(before)
    rows = layer.rows(normal)
    # The second head of the second layer.
    queries, group = rows.queries[:, 1], 1 // (heads // layer.shape.key_heads)
    scores = queries @ rows.keys[:, group].T / layer.shape.width**0.5
    after = layer(before, Places(bag.offsets, None)).tiles
    attention = head.attention(after)[:, 0].softmax(0)
    if layer.router is not None:
        attention = attention * layer.router(normal)[:, 1]
    read = attention @ scores.softmax(1)
    torch.testing.assert_close(found.attention[:TILES, heads + 1], read / read.sum())
    layer.out.weight.unflatten(1, (heads, -1))[:, 1] = 0
    torch.testing.assert_close(found.without[:, heads + 1], head(bags).logits)


@torch.no_grad()
def test_maps_of_gaussians_have_the_mean_that_is_drawn(bags):
    head = built("gaam")
    found = head.ablated(bags)
    torch.testing.assert_close(found.attention.mean(1), head(bags).scores[:, 0].exp())
    rows = torch.stack([head.pooled(bags.features[:TILES])[0]])
    rows[:, 1] = 0
    torch.testing.assert_close(found.without[:1, 1], head.classify(rows.flatten(1)))


@pytest.mark.parametrize(
    ("name", "single"),
    [
        ("acmil", "branches"),
        ("acmil_mha", "branches"),
        ("gaam", "gaussians"),
        ("graph_select", "branches"),
        ("lama", "branches"),
        ("mha", "heads"),
        ("mixed_abmil", "layers"),
        ("probe", "queries"),
    ],
)
def test_a_single_branch_cannot_be_left_out(bags, name, single):
    mix = {"mix": {"attention": "full", "heads": 1}} if name == "mixed_abmil" else {}
    assert built(name, **{single: 1}, **mix).ablated(bags) is None


@torch.no_grad()
def test_of_an_average_each_branch_of_each_member_is_left_out(bags):
    one_bag = join([bags.features[:TILES]])
    members = [built("acmil", seed) for seed in (0, 1)]
    of_members = [member.ablated(one_bag) for member in members]
    found = ablation_of(assemble(members), one_bag)
    expected = (of_members[0].whole + of_members[1].without[:, 2]) / 2
    torch.testing.assert_close(torch.from_numpy(found.logits[5:]), expected, atol=1e-6, rtol=0)
    attention = torch.cat([member.attention for member in of_members], 1)
    torch.testing.assert_close(torch.from_numpy(found.attention), attention, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_class_is_left_out_of_all_members(bags):
    one_bag = join([bags.features[:TILES]])
    members = [built("clam_mb", seed) for seed in (0, 1)]
    of_members: list[Ablated] = [member.ablated(one_bag) for member in members]
    found = ablation_of(assemble(members), one_bag)
    expected = torch.stack([member.without[0] for member in of_members]).mean(0)
    torch.testing.assert_close(torch.from_numpy(found.logits), expected, atol=1e-6, rtol=0)


def test_heads_without_branches_have_no_ablation(bags):
    assert ablation_of(built("abmil"), bags) is None
    assert ablation_of(assemble([built("abmil"), built("abmil", 1)]), bags) is None
