"""Patch flipping of a real head with one planted tile gives the area known by hand."""

import numpy as np
import pytest
import torch

from mil.config import Recipe
from mil.evaluate.flipping import flip_curves
from mil.heads import build_head
from mil.io.scores import FLIP_SHARES, read_scores
from mil.score.jobs import ScoreJob
from mil.statistics.flipping import flip_area
from mil.trained import save_trained
from tests.evaluate.test_metrics import TASK, trained
from tests.scored import score_all
from tests.synthetic import bag_file

OPTIONS = {"hidden": 1}


@pytest.mark.parametrize("tiles", [2, 12, 1500])
def test_the_largest_tile_decides(tmp_path, tiles):
    """Log-odds 3 with the planted tile and -1 without: 4, however many tiles there are."""
    head = build_head("max", OPTIONS, dim=2, classes=2)
    # One hidden unit that is 1 for the planted tile and 0 for others.
    values = ([[1.0, 0.0]], [0.0], [[4.0], [0.0]], [-1.0, 0.0])
    weights = dict(zip(head.state_dict(), map(torch.tensor, values), strict=True))
    recipe = Recipe(name="max", options=OPTIONS, losses={"cross_entropy": 1})
    record = trained().model_copy(update={"recipe": recipe, "dim": 2})
    save_trained(tmp_path / "head", record, weights, {})
    features = np.zeros((tiles, 2))
    features[tiles // 2, 0] = 1
    bag_file(tmp_path / "s.h5", "s", features)
    score_all([tmp_path / "head"], [ScoreJob("s", (tmp_path / "s.h5",), tmp_path / "out.h5")])
    (scores,) = read_scores(tmp_path / "out.h5").scores
    curves = flip_curves(TASK, [scores])
    for kind in ("alone", "effect"):
        area = flip_area(np.array(FLIP_SHARES), curves[kind], tiles)
        # Of two tiles only one can be removed: there is no axis.
        assert area == (None if tiles == 2 else pytest.approx(4))
