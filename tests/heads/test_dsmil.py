"""DSMIL against the published form, bag by bag, with its convolution."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from mil.bags import join, per_bag
from mil.config import load_recipe
from mil.heads import build_head
from mil.losses import attention_entropy, total_loss
from tests.kernels.gated import Largest

LABELS = torch.tensor([0, 2, 1])


def head_of(**options):
    torch.manual_seed(0)
    return build_head("dsmil", {"hidden": 4, **options}, dim=6, classes=3).double().eval()


def bags_of(*sizes):
    made = torch.Generator().manual_seed(1)
    return join([torch.randn(n, 6, generator=made, dtype=torch.float64) for n in sizes])


def published(head, features, query):
    """Highest tiles' logits, bag stream's logits, attention before the softmax [tiles, classes]."""
    tiles = features @ head.classify_tile.weight.T + head.classify_tile.bias
    queries = query(features)
    critical = queries[tiles.argmax(0)]  # [classes, hidden]
    scores = queries @ critical.T / math.sqrt(4)
    pooled = scores.softmax(0).T @ features  # [classes, dim]
    convolution = nn.Conv1d(3, 3, 6).double()
    convolution.weight.data = head.classify.weight.data.reshape(3, 3, 6)
    convolution.bias.data = head.classify.bias.data
    return tiles.max(0).values, convolution(pooled[None])[0, :, 0], scores


def linear_query(head):
    return lambda x: x @ head.attention[0].weight.T + head.attention[0].bias


def tanh_query(head):
    return lambda x: torch.tanh(head.attention[2](torch.relu(linear_query(head)(x))))


@pytest.mark.parametrize(("two_layers", "query"), [(False, linear_query), (True, tanh_query)])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_equal_to_the_published_form(two_layers, query, training):
    head = head_of(two_layers=two_layers).train(training)
    bags = bags_of(9, 1, 5)
    out = head(bags)
    assert out.per_class
    assert out.branch_logits.shape == (3, 1, 3)
    scores_of = per_bag(out.scores, bags.offsets)
    for b, features in enumerate(per_bag(bags.features, bags.offsets)):
        highest, bag, want = published(head, features, query(head))
        mean = (bag.softmax(0) + highest.softmax(0)) / 2
        torch.testing.assert_close(out.branch_logits[b, 0], highest, rtol=0, atol=1e-12)
        torch.testing.assert_close(scores_of[b], want, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            out.logits[b], bag if training else mean.log(), rtol=0, atol=1e-12
        )


def test_evaluation_predicts_the_mean_of_both_streams():
    head = head_of()
    bags = bags_of(9, 4)
    streams = head.train()(bags)
    want = (streams.logits.softmax(-1) + streams.branch_logits[:, 0].softmax(-1)) / 2
    torch.testing.assert_close(head.eval()(bags).logits.softmax(-1), want)


def test_evaluation_is_finite_where_one_stream_is_certain():
    head = head_of().float()
    with torch.no_grad():
        head.classify.bias.copy_(torch.tensor([1000.0, 0, 0]))
        head.classify_tile.bias.copy_(torch.tensor([0, 1000.0, 0]))
    probabilities = head(join([torch.zeros(3, 6)])).logits.softmax(-1)
    torch.testing.assert_close(probabilities, torch.tensor([[0.5, 0.5, 0.0]]))


def test_the_recipe_weighs_both_streams_the_same():
    head = head_of().train()
    bags = bags_of(9, 4, 3)
    weights = {name: weight.start for name, weight in load_recipe("dsmil").losses.items()}
    out = head(bags)
    loss, _ = total_loss(weights, out, bags, LABELS)
    want = 0.5 * functional.cross_entropy(out.logits, LABELS)
    want += 0.5 * functional.cross_entropy(out.branch_logits[:, 0], LABELS)
    assert loss.item() == pytest.approx(want.item(), rel=1e-12)


def test_the_tile_stream_teaches_the_tile_classifier_only():
    head = head_of().train()
    head(bags_of(9)).branch_logits.sum().backward()
    reached = {
        name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == {"classify_tile.weight", "classify_tile.bias"}


def test_entropy_is_the_mean_over_classes():
    head = head_of()
    bags = bags_of(9)
    out = head(bags)
    a = out.scores.T.softmax(-1)  # [classes, tiles]
    want = (a * a.log()).sum() / 3
    assert attention_entropy(out, bags, LABELS[:1]).item() == pytest.approx(want.item(), rel=1e-12)


def test_equal_tiles_are_one_tile():
    head = head_of()
    one = bags_of(1)
    many = join([one.features.expand(7, -1)])
    torch.testing.assert_close(head(many).logits, head(one).logits, rtol=0, atol=1e-12)


def test_only_critical_tiles_have_a_query():
    head = build_head("dsmil", {"hidden": 64}, dim=6, classes=3).train()
    bags = join([torch.randn(2000, 6)])
    with Largest() as largest:
        out = head(bags)
        total_loss({"cross_entropy": 1.0}, out, bags, LABELS[:1])[0].backward()
    assert largest.nbytes <= bags.features.nbytes


def test_dropout_is_on_the_pooled_features_in_training_only():
    head = head_of(dropout=0.5)
    bags = bags_of(9)
    quiet = head_of()
    assert torch.equal(head(bags).logits, quiet(bags).logits)
    loud = head.train()(bags)
    assert not torch.equal(loud.logits, quiet.train()(bags).logits)
    assert torch.equal(loud.scores, quiet(bags).scores)
    assert torch.equal(loud.branch_logits, quiet(bags).branch_logits)
