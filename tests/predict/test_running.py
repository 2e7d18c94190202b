"""Answers of a part of a slide: those of the bag of the tiles seen so far."""

import numpy as np
import pytest
import torch

from mil.heads import build_head
from mil.io.bags import Bag
from mil.predict.running import Running
from mil.trained import Trained, apply
from tests.predict.made import TWO, ensemble

FEATURES = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float16)


def models(count: int) -> list:
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        head = build_head("acmil", {"hidden": 8}, dim=4, classes=2)
        for weight in head.parameters():
            weight.data.normal_()
        found.append((head.eval(), ensemble(TWO).trained))
    return found


def of_bag(pair: tuple[torch.nn.Module, Trained], tiles: int):
    bag = Bag(
        slide="s",
        encoder="tiny",
        features=FEATURES[:tiles],
        coords=None,
        valid=np.ones(tiles, bool),
    )
    return apply(*pair, bag)


def test_an_estimate_is_the_answer_of_the_tiles_so_far():
    heads = models(3)
    running = Running(heads, len(FEATURES))
    assert (running.predictions().size, running.estimate()) == (0, "")
    for first, last in ((0, 5), (5, 5), (5, 6), (6, 23)):
        running.add(FEATURES[first:last])
        expected = [of_bag(pair, last).predictions for pair in heads]
        np.testing.assert_allclose(running.predictions(), expected, rtol=1e-5)
        mean = np.mean(expected, axis=0)[1]
        assert running.estimate() == f"p(tumour) = {mean:.3f} (threshold 0.500)"


@pytest.mark.parametrize("readable", [40, 31])
def test_the_end_is_the_answer_of_all_readable_tiles(readable):
    heads = models(2)
    running = Running(heads, len(FEATURES))
    for first in range(0, readable, 7):
        running.add(FEATURES[first : min(first + 7, readable)])
    for pair, found in zip(heads, running.conclude(), strict=True):
        expected = of_bag(pair, readable)
        np.testing.assert_allclose(found.predictions, expected.predictions, rtol=1e-5)
        np.testing.assert_allclose(found.attention, expected.attention, rtol=1e-5)
        assert found.attention.sum() == pytest.approx(1, abs=1e-6)
