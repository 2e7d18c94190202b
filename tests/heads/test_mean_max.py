"""MeanMIL and MaxMIL: values by hand, and where the gradient goes."""

import pytest
import torch

from mil.bags import attention, join
from mil.heads import build_head

TILES = torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, 2.0]])
BAGS = join([TILES, torch.tensor([[5.0, 7.0]])])


def head_of(name):
    """Logits of a tile: (2 a + 1, 3 b - 1) of its features (a, b), where those are not negative."""
    head = build_head(name, {"hidden": 2}, dim=2, classes=2).eval()
    first = head.classify[0]
    last = head.classify[3]
    with torch.no_grad():
        first.weight.copy_(torch.eye(2))
        first.bias.zero_()
        last.weight.copy_(torch.diag(torch.tensor([2.0, 3.0])))
        last.bias.copy_(torch.tensor([1.0, -1.0]))
    return head


@pytest.mark.parametrize(("name", "want"), [("mean", [5.0, 5.0]), ("max", [7.0, 11.0])])
def test_by_hand(name, want):
    logits = head_of(name)(BAGS).logits
    torch.testing.assert_close(logits, torch.tensor([want, [11.0, 20.0]]))


def test_negative_activations_are_cut_before_the_last_layer():
    for name in ("mean", "max"):
        torch.testing.assert_close(
            head_of(name)(join([-TILES])).logits, torch.tensor([[1.0, -1.0]])
        )


def test_mean_attends_evenly():
    out = head_of("mean")(BAGS)
    assert out.scores.tolist() == [[0.0]] * 4
    torch.testing.assert_close(attention(out, BAGS, 1), torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0]))


def test_max_shows_the_tiles_logits_of_a_class():
    out = head_of("max")(BAGS)
    assert out.per_class
    assert out.scores.tolist() == [[3.0, 11.0], [7.0, -1.0], [5.0, 5.0], [11.0, 20.0]]
    want = torch.tensor([11.0, -1.0, 5.0]).softmax(0)
    torch.testing.assert_close(attention(out, BAGS, 1)[:3], want)


@pytest.mark.parametrize(("name", "want"), [("mean", [1.0, 1.0, 1.0]), ("max", [3.0, 0.0, 0.0])])
def test_where_the_gradient_of_a_class_goes(name, want):
    features = (TILES + 1).requires_grad_()
    head_of(name)(join([features])).logits[0, 1].backward()
    assert features.grad.tolist() == [[0.0, value] for value in want]


def test_dropout_is_for_training_only():
    head = build_head("mean", {"dropout": 0.5}, dim=8, classes=2)
    bags = join([torch.randn(6, 8)])
    assert not torch.equal(head.train()(bags).logits, head(bags).logits)
    assert torch.equal(head.eval()(bags).logits, head(bags).logits)
