"""The prediction after every share of the tiles: that of a bag of those tiles."""

import numpy as np
import pytest
import torch

from mil.bags import join
from mil.heads import build_head
from mil.heads._stream import PooledPart
from mil.predict import curve as curves
from mil.predict import messages
from mil.predict.curve import SETTLED, Cells, Curve, last_step, rows_of, settled_cells
from mil.tasks import Regression
from mil.trained.assembled import assemble
from mil.trained.forward import forward
from tests.heads.waves import assert_rows, cosines, wave
from tests.predict.made import TWO, ensemble

FEATURES = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float16)
# fmt: off
AAREN_SCORES = [
    0.126892913571, -0.106634526366, 0.012509042274, 0.090281614995, -0.130533045719,
    0.080362570298, 0.025476082857,
]
AAREN_ROWS = [
    [1.040270491703, -0.193263587905, -0.787619468944, 1.222908470992],
    [0.128853548517, 0.207052202007, -0.399530250572, 0.315248597250],
    [0.184465225014, -0.107170529950, -0.044362558522, 0.165165136715],
    [0.303567428045, -0.012078361092, -0.287777540689, 0.388286268490],
    [0.053503867258, 0.061403392790, -0.133775739252, 0.113479924386],
    [0.192723386622, -0.089110578038, -0.076230264851, 0.188765430710],
    [0.169539534622, 0.012881208439, -0.186378974072, 0.230769646492],
]
# fmt: on


def test_parts_merged_one_by_one_are_the_golden_prefixes_of_attention_as_a_recurrence():
    tiles = cosines(7, 4)
    scores = (tiles @ wave(1, 4, 4).T) @ wave(0, 4) / 2
    assert_rows(scores, AAREN_SCORES)
    values = tiles @ wave(2, 4, 4).T
    state = None
    prefixes = []
    for value, score in zip(values, scores, strict=True):
        tile = PooledPart(value[None], score[None])
        state = tile if state is None else state.merge(tile)
        prefixes.append(state.rows[0])
    assert_rows(torch.stack(prefixes), AAREN_ROWS)


def models(count, name="acmil"):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        head = build_head(name, {"hidden": 8}, dim=4, classes=2)
        for weight in head.parameters():
            weight.data.normal_()
        found.append(head.eval())
    return found


def of_heads(heads):
    made = ensemble(TWO, len(heads))
    return type(made)(list(zip(heads, made.records, strict=True)), made.encoders)


def curve_of(heads, readable, batch=7):
    cells = Cells(heads.models, len(readable))
    for first in range(0, len(readable), batch):
        tiles = np.arange(first, min(first + batch, len(readable)))
        tiles = tiles[readable[tiles]]
        cells.add(tiles, FEATURES[tiles])
    return cells, cells.curve(heads)


@pytest.mark.parametrize("name", ["acmil", "max"])
def test_each_step_is_the_prediction_of_the_tiles_so_far(name):
    # One head of two members, and one by itself.
    one, two, three = models(3, name)
    heads = of_heads([assemble([one, two]), three])
    readable = np.ones(90, bool)
    readable[[3, 50, 51]] = False
    cells, curve = curve_of(heads, readable)
    assert curve.tiles.shape == (10, 20)
    assert (curve.tiles[:, -1] == 87).all()
    dealt = np.flatnonzero(readable)
    for step in (0, 7, 19):
        seen = dealt[cells._cell_of[dealt] <= step]
        assert curve.tiles[0, step] == len(seen)
        bag = join([torch.from_numpy(FEATURES[seen]).float()])
        expected = [forward(head, trained, bag).predictions for head, trained in heads.models]
        np.testing.assert_allclose(curve.predictions[0, step], np.mean(expected, 0), rtol=1e-5)
    # Every order ends with all tiles; on the way orders differ.
    assert np.ptp(curve.predictions[:, -1], 0).max() < 1e-6
    assert np.ptp(curve.predictions[:, 3], 0).max() > 1e-3


def test_how_the_batches_fall_changes_nothing(monkeypatch):
    heads = of_heads(models(1))
    readable = np.ones(90, bool)
    before = curve_of(heads, readable)[1]
    monkeypatch.setattr(curves, "WAITING", 2)
    after = curve_of(heads, readable, batch=20)[1]
    np.testing.assert_allclose(before.predictions, after.predictions, rtol=1e-5)
    assert (before.tiles == after.tiles).all()


def test_a_slide_of_few_tiles_has_a_step_for_each():
    curve = curve_of(of_heads(models(1)), np.array([True, False, True]))[1]
    assert curve.tiles.tolist()[0] == [1, 2]


@pytest.mark.parametrize(
    ("calls", "step"), [("tnttt", 2), ("ttttt", 0), ("nnnnt", 4), ("t", 0), ("ntntt", 3)]
)
def test_first_step_of_a_call_that_stays(calls, step):
    assert last_step(list(calls)) == step


def made(called):
    low = np.array([[0.1, 0.9], [0.6, 0.4]])
    high = np.array([[0.7, 0.3], [0.5, 0.5]])
    return Curve(np.array([[2, 8], [3, 8]]), np.stack([low, high]), called)


def test_rows_line_and_columns_of_a_curve(tmp_path):
    curve = made([["tumour", "normal"], ["normal", "normal"]])
    assert rows_of(curve, ["p_normal", "p_tumour"])[0] == {
        "share": "0.25",
        "tiles": 2,
        "p_normal": "0.1",
        "low_normal": "0.1",
        "high_normal": "0.7",
        "p_tumour": "0.9",
        "low_tumour": "0.3",
        "high_tumour": "0.9",
        "called": "tumour",
        "agree": "0.5",
    }
    # Of several labels none is a call too.
    assert made([["a", ""], ["", ""]]).settled == [1.0, 0.375]
    expected = {"settled": "1", "settled_low": "0.375", "settled_high": "1"}
    assert settled_cells(curve) == expected
    assert messages.curve("a", curve, tmp_path / "a.csv") == (
        "predict a: called normal from 100 % of the 8 tiles on, 38 to 100 % in 2 random orders: "
        f"{tmp_path / 'a.csv'}"
    )


def test_numbers_without_classes_have_no_call_that_settles(tmp_path):
    assert Regression(mean=0, deviation=1).predicted_class(np.array([1.0]), None) == ""
    curve = made([["", ""], ["", ""]])
    assert settled_cells(curve) == settled_cells(None) == dict.fromkeys(SETTLED, "")
    assert rows_of(curve, ["value", "p_x"])[1]["agree"] == ""
    assert "called" not in messages.curve("a", curve, tmp_path)
