"""Validation: the score that selects an epoch, by hand."""

import pytest
import torch

from mil.bags import HeadOutput
from mil.tasks import CLASSES
from mil.train.data import LabelledBag, small_batches
from mil.train.validate import validate


class Echo(torch.nn.Module):
    """Returns a bag's only tile as its logits."""

    def forward(self, bags):
        return HeadOutput(bags.features, torch.zeros(len(bags.features), 1))


def test_the_selecting_score_by_hand():
    logits = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 4.0]])
    labels = torch.tensor([0, 0, 0, 1])
    bags = [
        LabelledBag("a", row[None], None, label) for row, label in zip(logits, labels, strict=True)
    ]
    score = {
        select: validate(Echo(), bags, CLASSES, select, torch.device("cpu"))["score"]
        for select in ("loss", "f1_auc", "f1_micro_auc")
    }
    # Ranked without fault; of four slides one is called wrongly. F1 of the classes: 4/5
    # and 2/3.
    assert score["f1_auc"] == pytest.approx((4 / 5 + 2 / 3) / 2 + 1)
    assert score["f1_micro_auc"] == pytest.approx(3 / 4 + 1)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert score["loss"] == pytest.approx(-float(loss))


def test_small_bags_go_through_a_head_together():
    sizes = (3, 4, 9, 1, 2)
    bags = [
        LabelledBag(f"s{i}", torch.full((tiles, 2), float(i)), None, torch.tensor(i))
        for i, tiles in enumerate(sizes)
    ]
    batches = list(small_batches(bags, torch.device("cpu"), most_tiles=7))
    assert [batch.offsets.diff().tolist() for batch, _ in batches] == [[3, 4], [9], [1, 2]]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 2, 3, 4]
    rows = torch.cat([batch.features for batch, _ in batches])
    assert torch.equal(rows, torch.cat([bag.features for bag in bags]))
