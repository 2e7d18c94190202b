"""IBMIL: prototypes of the training bags, and a head that looks at them."""

import math

import pytest
import torch

from mil.bags import join
from mil.errors import DatasetError
from mil.heads import TwoStage, abmil, build_head
from mil.heads.ibmil import _prototypes
from tests.messages import one_line


def head_of(**options):
    torch.manual_seed(0)
    return (
        build_head("ibmil", {"hidden": 8, "prototypes": 4, **options}, dim=6, classes=3)
        .double()
        .eval()
    )


def bags_of(count, tiles=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [join([torch.randn(tiles, 6, generator=generator).double()]) for _ in range(count)]


def followed(bags, **options):
    head = head_of(**options)
    head.follow(head.first_stage().double().eval(), bags)
    return head


def sorted_rows(rows):
    return rows[rows[:, 0].argsort()]


def test_clusters_are_of_directions_and_prototypes_are_their_mean_rows():
    rows = torch.tensor(
        [[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0], [0.0, 6.0], [-5.0, -5.0]]
    ).double()
    want = torch.tensor([[-5.0, -5.0], [0.0, 4.0], [2.0, 0.0]]).double()
    torch.testing.assert_close(sorted_rows(_prototypes(rows, 3)), want)
    assert torch.equal(_prototypes(rows, 3), _prototypes(rows, 3))


def test_prototypes_are_those_of_the_first_stages_rows():
    head = head_of(prototypes=8)
    bags = bags_of(5)
    first = head.first_stage().double().eval()
    assert type(first) is abmil.Head
    head.follow(first, bags)
    rows = []
    for bag in bags:
        hidden = first.reduce(bag.features)
        rows.append((hidden * first.attention(hidden).softmax(0)).sum(0))
    torch.testing.assert_close(sorted_rows(head.confounders[:5]), sorted_rows(torch.stack(rows)))
    assert (
        head.present.tolist() == [True] * 5 + [False] * 3
    )  # five bags: five of the eight clusters
    assert not head.confounders.requires_grad


def test_the_row_attends_to_the_prototypes():
    head = followed(bags_of(9))
    bags = join([bag.features for bag in bags_of(2, seed=5)])
    hidden = head.reduce(bags.features)
    scores = head.attention(hidden)
    rows = torch.stack(
        [(h * s.softmax(0)).sum(0) for h, s in zip(hidden.split(5), scores.split(5), strict=True)]
    )
    shares = (head.query(rows) @ head.key(head.confounders).T / math.sqrt(128)).softmax(1)
    out = head(bags)
    torch.testing.assert_close(
        out.logits, head.classify(torch.cat([rows, shares @ head.confounders], 1))
    )
    torch.testing.assert_close(out.scores, scores)


def test_prototypes_that_are_not_there_get_no_attention():
    few = followed(bags_of(3), prototypes=8)
    exact = followed(bags_of(3), prototypes=3)
    exact.load_state_dict(
        few.state_dict() | {"confounders": few.confounders[:3], "present": few.present[:3]}
    )
    bags = bags_of(1, seed=5)[0]
    torch.testing.assert_close(few(bags).logits, exact(bags).logits)


def test_equal_bags_make_one_prototype():
    head = followed(bags_of(1) * 6)
    assert head.present.tolist() == [True, False, False, False]


def test_before_the_first_stage_it_sees_no_prototypes():
    head = head_of()
    bags = bags_of(1)[0]
    with torch.no_grad():
        head.classify.weight[:, 8:] = 1e6
    assert torch.isfinite(head(bags).logits).all()
    assert head(bags).logits.abs().max() < 10  # the prototypes' half of the classifier gets zeros


def test_a_second_follow_forgets_the_first():
    head = followed(bags_of(9))
    head.follow(head.first_stage().double().eval(), bags_of(2))
    assert head.present.tolist() == [True, True, False, False]
    assert head.confounders[2:].abs().max() == 0


def test_weights_hold_the_prototypes():
    head = followed(bags_of(9))
    bags = bags_of(1, seed=5)[0]
    again = head_of()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(bags).logits, head(bags).logits)
    assert isinstance(head, TwoStage)


@pytest.mark.parametrize(
    ("bags", "message"),
    [
        ([], "there are no training bags"),
        ([join([torch.full((2, 6), torch.nan).double()])], r"not numbers; lower train\.lr"),
    ],
)
def test_what_cannot_be_clustered_is_one_line(bags, message):
    with one_line(DatasetError, match=message):
        followed(bags)
