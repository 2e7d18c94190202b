"""MHIM-MIL: what is hidden from the student, and how the teacher follows."""

import pytest
import torch

from mil.bags import MASKED, join
from mil.heads import FollowsSteps, TwoStage, build_head
from mil.heads.mhim import _hardest
from mil.losses import cross_entropy, teacher_consistency

LABELS = torch.tensor([1, 0])


def head_of(**options):
    torch.manual_seed(0)
    return build_head("mhim", {"hidden": 8, **options}, dim=6, classes=2).double().eval()


def bags_of(*sizes):
    generator = torch.Generator().manual_seed(1)
    return join([torch.randn(size, 6, generator=generator).double() for size in sizes])


@pytest.mark.parametrize(
    ("size", "share", "random", "pool", "count"),
    [
        (100, 0.1, 0.5, 20, 10),
        (35, 0.1, 0.5, 6, 3),
        (10, 0.1, 0.5, 2, 1),
        (9, 0.1, 0.5, 0, 0),
        (1, 0.1, 0.5, 0, 0),
        (100, 0.1, 1.0, 10, 10),
        (10, 0.8, 0.5, 10, 8),
        (100, 0.0, 0.5, 0, 0),
        (4, 1.0, 0.5, 4, 4),
    ],
)
def test_hides_that_many_of_the_hardest(size, share, random, pool, count):
    torch.manual_seed(0)
    scores = torch.randn(size, 1)
    hidden = _hardest(scores, torch.tensor([0, size]), share, random)
    assert len(hidden) == len(set(hidden.tolist())) == count
    assert set(hidden.tolist()) <= set(scores[:, 0].topk(pool).indices.tolist())


def test_hides_in_each_bag_and_draws_anew():
    torch.manual_seed(0)
    scores = torch.randn(150, 1)
    first, second = (_hardest(scores, torch.tensor([0, 100, 150]), 0.1, 0.5) for _ in range(2))
    assert [int((first < 100).sum()), int((first >= 100).sum())] == [10, 5]
    assert set(first.tolist()) != set(second.tolist())


def test_in_training_the_student_does_not_see_what_the_teacher_attends_to_most():
    head = head_of(dropout=0.0, mask_random=1.0).train()
    bags = bags_of(40, 5)
    out = head(bags)
    want = head.teacher(bags).scores[:40, 0].topk(4).indices
    assert set((out.scores[:, 0] == MASKED).nonzero()[:, 0].tolist()) == set(want.tolist())
    kept = torch.ones(45, dtype=torch.bool)
    kept[want] = False
    hidden = head.reduce(bags.features)[:40][kept[:40]]
    scores = out.scores[:40][kept[:40]]
    row = (hidden * scores.softmax(0)).sum(0)
    torch.testing.assert_close(out.embedding[0], row)
    torch.testing.assert_close(out.logits[0], head.classify(row))
    torch.testing.assert_close(out.teacher_embedding, head.teacher(bags).embedding)


def test_in_evaluation_the_student_sees_the_whole_bag_and_no_teacher():
    head = head_of()
    bags = bags_of(40, 5)
    before = head(bags)
    assert before.teacher_embedding is None
    assert before.scores.min() > MASKED
    assert teacher_consistency(before, bags, LABELS).item() == 0
    with torch.no_grad():
        for weight in head.teacher.parameters():
            weight.add_(1)
    assert torch.equal(head(bags).logits, before.logits)


def test_the_first_stage_becomes_the_teacher_and_the_student_starts_afresh():
    head = head_of()
    assert isinstance(head, TwoStage)
    first = head.first_stage().double()
    bags = bags_of(40, 5)
    out = first.train()(bags)
    assert out.scores.min() > MASKED
    assert teacher_consistency(out, bags, LABELS).item() == 0
    student = {
        name: weight.clone()
        for name, weight in head.state_dict().items()
        if not name.startswith("teacher.")
    }
    head.follow(first, [])
    assert all(
        torch.equal(weight, head.teacher.state_dict()[name])
        for name, weight in first.state_dict().items()
    )
    assert all(torch.equal(weight, head.state_dict()[name]) for name, weight in student.items())
    assert torch.equal(head.teacher.eval()(bags).logits, first.eval()(bags).logits)


def test_the_teacher_follows_the_student_step_by_step():
    head = head_of(momentum=0.9)
    assert isinstance(head, FollowsSteps)
    before = {name: weight.clone() for name, weight in head.teacher.named_parameters()}
    head.after_step()
    for name, weight in head.teacher.named_parameters():
        torch.testing.assert_close(weight, 0.9 * before[name] + 0.1 * head.get_parameter(name))


def test_the_teacher_is_not_trained_but_saved():
    head = head_of().train()
    bags = bags_of(40, 5)
    out = head(bags)
    (cross_entropy(out, bags, LABELS) + teacher_consistency(out, bags, LABELS)).backward()
    assert not any(
        weight.requires_grad or weight.grad is not None for weight in head.teacher.parameters()
    )
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.requires_grad)
    assert {f"teacher.{name}" for name in head.teacher.state_dict()} <= set(head.state_dict())


def test_the_teachers_dropout_is_on_in_training_as_published():
    head = head_of().train()
    bags = bags_of(40, 5)
    assert not torch.equal(head(bags).teacher_embedding, head(bags).teacher_embedding)


def test_consistency_pulls_the_student_towards_the_sharpened_teacher():
    head = head_of(dropout=0.0).train()
    bags = bags_of(40, 5)
    out = head(bags)
    target = (out.teacher_embedding / 0.1).softmax(1)
    want = (torch.logsumexp(out.embedding, 1) - (target * out.embedding).sum(1)).mean()
    torch.testing.assert_close(teacher_consistency(out, bags, LABELS), want)


@pytest.mark.parametrize("tiles", [1, 2, 9, 10])
def test_few_or_equal_tiles(tiles):
    head = head_of().train()
    bags = join([torch.ones(tiles, 6).double()])
    out = head(bags)
    (cross_entropy(out, bags, LABELS[:1]) + teacher_consistency(out, bags, LABELS[:1])).backward()
    assert int((out.scores == MASKED).sum()) == tiles // 10
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.requires_grad)


def learn(head, bags, labels):
    optimiser = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        out = head.train()(bags)
        optimiser.zero_grad()
        (cross_entropy(out, bags, labels) + 0.1 * teacher_consistency(out, bags, labels)).backward()
        optimiser.step()
        if isinstance(head, FollowsSteps):
            head.after_step()
    return out


def test_learns_although_the_hardest_tiles_are_hidden():
    """80 bags of 30 tiles, five planted in each positive bag; three are hidden per step."""
    labels = torch.arange(80) % 2
    tiles = torch.randn(80, 30, 6, generator=torch.Generator().manual_seed(0)).double()
    tiles[labels == 1, :5, 0] += 4
    head = head_of()
    seen = join(list(tiles[:40]))
    fresh = join(list(tiles[40:]))
    first = head.first_stage().double()
    learn(first, seen, labels[:40])
    head.follow(first, [])
    assert (learn(head, seen, labels[:40]).scores == MASKED).sum().item() == 3 * 40
    # 0.9 to 1 over seeds of dropout.
    assert (head.eval()(fresh).logits.argmax(1) == labels[40:]).double().mean().item() >= 0.85
