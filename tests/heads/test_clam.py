"""CLAM: its tiles by hand, its loss against the definition bag by bag, a true softmax."""

import math

import pytest
import torch
from torch.nn import functional

from mil.bags import HeadOutput, Instances, join, log_attention, per_bag
from mil.config import load_recipe
from mil.heads import build_head
from mil.heads._clam import extremes
from mil.losses import instance_cross_entropy, total_loss

HEADS = ["clam_sb", "clam_mb"]


def head_of(name, classes=3, **options):
    torch.manual_seed(0)
    return build_head(
        name, {"hidden": 8, "attention": 4, "instances": 2, **options}, dim=6, classes=classes
    ).double()


def bags_of(*sizes):
    made = torch.Generator().manual_seed(1)
    return join([torch.randn(n, 6, generator=made, dtype=torch.float64) for n in sizes])


def judged(head, hidden, scores, label, k):
    """CLAM's instance loss of one bag, as its paper and code define it."""
    classes = len(head.judge.judges)
    losses = []
    for c, judge in enumerate(head.judge.judges):
        column = scores[:, c if scores.shape[1] > 1 else 0]
        top = hidden[column.topk(k).indices]
        bottom = hidden[(-column).topk(k).indices]
        if c == label:
            targets = torch.tensor([1] * k + [0] * k)
            losses.append(functional.cross_entropy(judge(torch.cat([top, bottom])), targets))
        elif classes > 2:
            losses.append(functional.cross_entropy(judge(top), torch.zeros(k, dtype=torch.long)))
    return sum(losses) / (classes if classes > 2 else 1)


@pytest.mark.parametrize(
    ("size", "most", "highest", "lowest"),
    [(6, 2, [3, 1], [0, 4]), (6, 8, [3, 1, 5], [2, 0, 4]), (3, 8, [1], [0]), (1, 8, [], [])],
)
def test_the_most_and_least_attended_tiles(size, most, highest, lowest):
    scores = torch.tensor([-3.0, 5.0, 1.0, 9.0, -7.0, 2.0])[:size, None]
    rows, bag, high = extremes(torch.cat([scores, scores]), torch.tensor([0, size, 2 * size]), most)
    assert rows[:, 0].tolist() == [*highest, *lowest, *(size + i for i in highest + lowest)]
    assert bag.tolist() == [0] * 2 * len(highest) + [1] * 2 * len(highest)
    assert high.tolist() == ([True] * len(highest) + [False] * len(lowest)) * 2


def test_no_tile_is_among_both_when_all_scores_are_equal():
    rows, _, high = extremes(torch.zeros(20, 2), torch.tensor([0, 5, 20]), 8)
    for c in range(2):
        assert not set(rows[high, c].tolist()) & set(rows[~high, c].tolist())
    assert len(rows) == 2 * 2 + 2 * 7


@pytest.mark.parametrize("name", HEADS)
def test_each_class_judges_its_own_tiles(name):
    head = head_of(name).eval()
    bags = bags_of(9, 1, 3)
    out = head(bags)
    found = out.instances
    hidden = head.reduce(bags.features)
    assert len(found.logits) == 3 * (4 + 0 + 2)
    first = bags.offsets.tolist()
    for b, scores in enumerate(per_bag(out.scores, bags.offsets)):
        for c in range(3):
            k = min(2, len(scores) // 2)
            column = scores[:, c if name == "clam_mb" else 0]
            order = column.argsort(descending=True) + first[b]
            for high, rows in [(True, order[:k]), (False, order[len(order) - k :])]:
                here = (found.bag == b) & (found.of_class == c) & (found.highest == high)
                want = head.judge.judges[c](hidden[rows])
                torch.testing.assert_close(found.logits[here], want, rtol=0, atol=1e-12)


def instances(rows):
    """Of (bag, class, among the highest, logit of being of the class)."""
    bag, of_class, highest, logits = zip(*rows, strict=True)
    pairs = torch.tensor([[0.0, logit] for logit in logits])
    return Instances(pairs, torch.tensor(bag), torch.tensor(of_class), torch.tensor(highest))


def yes(logit):
    return math.log1p(math.exp(-logit))


def no(logit):
    return math.log1p(math.exp(logit))


def test_instance_loss_of_two_classes_by_hand():
    first = [
        (0, 0, True, 9.0),
        (0, 0, False, 9.0),
        (0, 1, True, 2.0),
        (0, 1, False, -1.0),
    ]  # label 1: 0 is silent
    second = [(1, 0, True, 0.5), (1, 0, False, 3.0), (1, 1, True, 9.0), (1, 1, False, 9.0)]
    found = instances(first + second)
    bags = join([torch.zeros(2, 1)] * 2)
    out = HeadOutput(torch.zeros(2, 2), torch.zeros(4, 1), instances=found)
    want = ((yes(2.0) + no(-1.0)) / 2 + (yes(0.5) + no(3.0)) / 2) / 2
    assert instance_cross_entropy(out, bags, torch.tensor([1, 0])).item() == pytest.approx(
        want, rel=1e-6
    )


def test_instance_loss_of_three_classes_by_hand():
    of_label = [(0, 1, True, 1.5), (0, 1, False, -0.5)]
    others = [
        (0, 0, True, 2.0),
        (0, 0, False, 9.0),
        (0, 2, True, -3.0),
        (0, 2, False, 9.0),
    ]  # their lowest do not count
    found = instances(others[:2] + of_label + others[2:])
    out = HeadOutput(torch.zeros(1, 3), torch.zeros(2, 1), instances=found)
    want = (no(2.0) + (yes(1.5) + no(-0.5)) / 2 + no(-3.0)) / 3
    got = instance_cross_entropy(out, join([torch.zeros(2, 1)]), torch.tensor([1]))
    assert got.item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [2, 3])
def test_instance_loss_is_that_of_the_definition(name, classes):
    head = head_of(name, classes).eval()
    bags = bags_of(9, 4, 12, 5)
    labels = torch.tensor([0, 1, classes - 1, 0])
    out = head(bags)
    hidden = per_bag(head.reduce(bags.features), bags.offsets)
    rows = zip(hidden, per_bag(out.scores, bags.offsets), labels.tolist(), strict=True)
    want = torch.stack([judged(head, h, s, label, 2) for h, s, label in rows]).mean()
    assert instance_cross_entropy(out, bags, labels).item() == pytest.approx(want.item(), rel=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_the_recipe_applies_the_instance_loss(name):
    recipe = load_recipe(name)
    bags = bags_of(20, 17)
    labels = torch.tensor([1, 0])
    head = build_head(recipe.name, recipe.options | {"hidden": 8}, dim=6, classes=2).double().eval()
    out = head(bags)
    total, _ = total_loss(
        {term: weight.start for term, weight in recipe.losses.items()}, out, bags, labels
    )
    inner = instance_cross_entropy(out, bags, labels)
    assert inner > 0
    want = 0.7 * functional.cross_entropy(out.logits, labels) + 0.3 * inner
    assert total.item() == pytest.approx(want.item(), rel=1e-12)
    assert len(out.instances.logits) == 2 * 2 * 16


@pytest.mark.parametrize("name", HEADS)
def test_the_instance_loss_reaches_the_features_and_not_the_attention(name):
    head = head_of(name, classes=2).train()
    bags = bags_of(9)
    instance_cross_entropy(head(bags), bags, torch.tensor([1])).backward()
    assert all(p.grad is None or not p.grad.any() for p in head.attention.parameters())
    assert head.reduce[0].weight.grad.abs().sum() > 0
    silent, of_label = head.judge.judges
    assert not silent.weight.grad.any()
    assert of_label.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", HEADS)
def test_bags_of_one_tile_have_no_instances(name):
    head = head_of(name).train()
    bags = bags_of(1, 1)
    out = head(bags)
    loss = instance_cross_entropy(out, bags, torch.tensor([0, 1]))
    assert len(out.instances.logits) == 0
    assert loss.item() == 0.0
    (loss + out.logits.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HEADS)
def test_the_softmax_is_a_true_one(name):
    head = head_of(name).eval()
    bags = bags_of(1)
    many = join([bags.features.expand(1000, -1)])
    for shift in (-10.0, 90.0, 900.0):
        with torch.no_grad():
            head.attention.score.bias.fill_(shift)
        out = head(many)
        total = log_attention(out.scores, many.offsets).exp().sum(0)
        torch.testing.assert_close(total, torch.ones_like(total))
        torch.testing.assert_close(out.logits, head(bags).logits, rtol=0, atol=1e-10)


def test_a_class_of_clam_mb_has_attention_and_classifier_of_its_own():
    head = head_of("clam_mb").eval()
    bags = bags_of(9)
    out = head(bags)
    assert out.per_class
    hidden = head.reduce(bags.features)
    for c in range(3):
        row = out.scores[:, c].softmax(0) @ hidden
        torch.testing.assert_close(
            out.logits[0, c : c + 1], head.classify[c](row), rtol=0, atol=1e-12
        )
    with torch.no_grad():
        head.attention.score.weight[1].mul_(-9)
    changed = head(bags).logits[0] != out.logits[0]
    assert changed.tolist() == [False, True, False]


def test_clam_sb_pools_with_gated_attention():
    head = head_of("clam_sb").eval()
    bags = bags_of(9)
    out = head(bags)
    hidden = torch.relu(head.reduce[0](bags.features))
    gated = torch.tanh(head.attention.value[0](hidden)) * torch.sigmoid(
        head.attention.gate[0](hidden)
    )
    scores = head.attention.score(gated)
    torch.testing.assert_close(out.scores, scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        out.logits[0], head.classify(scores[:, 0].softmax(0) @ hidden), rtol=0, atol=1e-12
    )


def test_the_product_of_the_gates_is_kept_where_both_keep_it():
    head = build_head("clam_sb", {"hidden": 64}, dim=6, classes=2).train()
    torch.manual_seed(0)
    dropped = head.attention.dropout(torch.ones(500, 128))
    assert (dropped != 0).float().mean().item() == pytest.approx(0.75**2, abs=0.01)
    assert dropped.max().item() == pytest.approx(0.75**-2)


def test_the_reducer_drops_a_quarter_in_training():
    head = build_head("clam_sb", {"hidden": 64}, dim=6, classes=2).train()
    assert head.reduce[0].bias is not None
    torch.manual_seed(0)
    kept = build_head("clam_sb", {"hidden": 64, "dropout": 0.0}, dim=6, classes=2)
    kept.load_state_dict(head.state_dict())
    full, dropped = (
        x.reduce(torch.randn(500, 6, generator=torch.Generator().manual_seed(1)))
        for x in (kept, head)
    )
    assert (dropped[full > 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
