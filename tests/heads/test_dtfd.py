"""DTFD-MIL: pseudo-bags, the rows distilled from them, and two independent tiers."""

import copy

import pytest
import torch

from mil.bags import Bags, join
from mil.heads import build_head
from mil.losses import branch_cross_entropy, cross_entropy

MODES = ["max_min", "max", "attended"]
TIER1 = ("reduce", "tile_attention", "pseudo_classify")
LABELS = torch.tensor([1, 0, 1])


def head_of(classes=2, **options):
    torch.manual_seed(0)
    return build_head("dtfd", {"hidden": 8, **options}, dim=6, classes=classes).double().eval()


def bags_of(*sizes):
    generator = torch.Generator().manual_seed(1)
    return join([torch.randn(size, 6, generator=generator).double() for size in sizes])


def tier1(head):
    return [parameter for name, parameter in head.named_parameters() if name.startswith(TIER1)]


def tier2(head):
    return [parameter for name, parameter in head.named_parameters() if not name.startswith(TIER1)]


@pytest.mark.parametrize("training", [True, False])
def test_pseudo_bags_share_out_the_tiles_of_each_bag(training):
    drawn, offsets = head_of().train(training)._split(torch.tensor([0, 11, 15]))
    assert offsets.diff().tolist() == [3, 3, 3, 2, 1, 1, 1, 1]
    assert sorted(drawn[:11].tolist()) == list(range(11))
    assert sorted(drawn[11:].tolist()) == [11, 12, 13, 14]
    assert drawn[:11].tolist() != list(range(11))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_bag_of_few_tiles_has_as_many_pseudo_bags_and_none_is_empty(size):
    drawn, offsets = head_of()._split(torch.tensor([0, size]))
    assert offsets.tolist() == [0, 1, 2, 3, 4]
    assert set(drawn.tolist()) == set(range(size))
    counts = torch.bincount(drawn)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("mode", MODES)
def test_degenerate_bags_give_whole_and_finite_answers(mode):
    head = head_of(distill=mode).train()
    bags = Bags(torch.ones(9, 6).double(), torch.tensor([0, 1, 3, 9]))
    out = head(bags)
    assert out.logits.shape == (3, 2)
    assert out.branch_logits.shape == (3, 4, 2)
    assert out.scores.shape == (9, 1)
    (cross_entropy(out, bags, LABELS) + branch_cross_entropy(out, bags, LABELS)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_the_split_is_drawn_in_training_and_fixed_in_evaluation():
    head = head_of()
    bags = bags_of(20, 7)
    assert torch.equal(head(bags).logits, head(bags).logits)
    torch.manual_seed(3)
    first = head.train()(bags).branch_logits
    second = head(bags).branch_logits
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(head(bags).branch_logits, first)


def test_evaluation_leaves_the_draws_of_training_alone():
    head = head_of()
    bags = bags_of(20)
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    head(bags)
    assert torch.equal(torch.rand(1), want)


def published(head, bag):
    """Logits of one bag by the published loops, for the split that the head draws."""
    drawn, offsets = head._split(torch.tensor([0, len(bag)]))
    rows = []
    for places in drawn.split(offsets.diff().tolist()):
        hidden = head.reduce(bag[places])
        attended = hidden * head.tile_attention(hidden).softmax(0)
        chance = (attended @ head.pseudo_classify.weight.T).softmax(1)[:, -1]
        ranked = chance.argsort(descending=True)
        chosen = {"max_min": [hidden[ranked[0]], hidden[ranked[-1]]], "max": [hidden[ranked[0]]]}
        rows += chosen.get(head.distill, [attended.sum(0)])
    rows = torch.stack(rows)
    return head.classify((rows * head.row_attention(rows).softmax(0)).sum(0))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_distils_and_answers_as_published(mode, classes):
    head = head_of(classes, distill=mode)
    bags = bags_of(23, 5, 9)
    want = torch.stack([published(head, bag) for bag in bags.features.split([23, 5, 9])])
    torch.testing.assert_close(head(bags).logits, want)


def test_pseudo_bags_answer_with_their_pooled_row():
    head = head_of()
    bags = bags_of(10)
    drawn, _ = head._split(bags.offsets)
    hidden = head.reduce(bags.features[drawn[:3]])
    want = head.pseudo_classify((hidden * head.tile_attention(hidden).softmax(0)).sum(0))
    torch.testing.assert_close(head(bags).branch_logits[0, 0], want)


def test_scores_are_those_of_tier_1_in_the_bags_order():
    head = head_of()
    bags = bags_of(10, 3)
    torch.testing.assert_close(head(bags).scores, head.tile_attention(head.reduce(bags.features)))


@pytest.mark.parametrize("mode", MODES)
def test_no_gradient_passes_between_the_tiers(mode):
    head = head_of(distill=mode).train()
    bags = bags_of(9, 4, 12)
    cross_entropy(head(bags), bags, LABELS).backward()
    assert all(parameter.grad is None for parameter in tier1(head))
    assert all(
        parameter.grad.abs().max() > 0
        for parameter in (head.classify.weight, head.row_attention.value.weight)
    )
    head.zero_grad(set_to_none=True)
    branch_cross_entropy(head(bags), bags, LABELS).backward()
    assert all(parameter.grad is None for parameter in tier2(head))
    assert all(parameter.grad is not None for parameter in tier1(head))


@pytest.mark.parametrize("mode", MODES)
def test_one_optimiser_does_what_the_published_two_do(mode):
    one = head_of(distill=mode).train()
    bags = bags_of(9, 4, 12)
    two = copy.deepcopy(one)
    whole = torch.optim.AdamW(one.parameters(), lr=1e-2)
    first, second = (torch.optim.AdamW(part(two), lr=1e-2) for part in (tier1, tier2))
    for step in range(5):
        torch.manual_seed(step)
        out = one(bags)
        whole.zero_grad()
        (cross_entropy(out, bags, LABELS) + branch_cross_entropy(out, bags, LABELS)).backward()
        whole.step()
        torch.manual_seed(step)
        out = two(bags)
        first.zero_grad()
        branch_cross_entropy(out, bags, LABELS).backward()
        first.step()  # before tier 2's backward, where AFS of the published code breaks
        second.zero_grad()
        cross_entropy(out, bags, LABELS).backward()
        second.step()
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_each_tiers_attention_matters_for_its_answer():
    head = head_of()
    bags = bags_of(40)
    before = head(bags)
    with torch.no_grad():
        head.row_attention.score.weight.mul_(50)
    changed = head(bags)
    assert (changed.logits - before.logits).abs().max() > 1e-3
    assert torch.equal(changed.branch_logits, before.branch_logits)
    with torch.no_grad():
        head.tile_attention.score.weight.mul_(50)
    assert (head(bags).branch_logits - before.branch_logits).abs().max() > 1e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_ranks_do_not_round_away_in_a_large_bag(classes):
    """A tile among many faint ones moves the softmax by less than float32 resolves."""
    head = head_of(classes)
    bags = bags_of(5000)
    bags = bags._replace(features=bags.features * 0.001)
    chosen = {}
    head.row_attention.register_forward_hook(
        lambda _, inputs, __: chosen.update({inputs[0].dtype: inputs[0].double()})
    )
    head(bags)
    head.float()(bags._replace(features=bags.features.float()))
    torch.testing.assert_close(chosen[torch.float32], chosen[torch.float64], rtol=0, atol=1e-8)
