"""Finer maps: where tiles are read again, what heads make of them, and means of overlaps."""

import numpy as np
import pytest
import torch

from mil.bags import join
from mil.config import FeaturesConfig, HeatmapConfig, Recipe, checked
from mil.errors import ConfigError, DatasetError
from mil.heads import build_head
from mil.io.tables import read_csv
from mil.io.tile_images import footprints_of_bag
from mil.io.tiles import read_tiles
from mil.predict.ensemble import load_ensemble, runners_of
from mil.refine.grid import attended_tiles, cell_means, fine_tiles
from mil.refine.picture import percentiles_in
from mil.refine.scores import fine_scores
from mil.refine.stage import RefineSettings, _embedded, check_independent, run
from mil.tasks import Classification
from mil.trained import Trained
from mil.trained.assembled import assemble
from mil.trained.forward import forward
from tests.messages import one_line
from tests.predict.made import ensemble
from tests.predict.test_predict import stage_by_stage

DIM = 6


def test_tiles_around_an_attended_one_overlap_it_and_stand_on_tissue():
    corners = np.array([[100, 50], [140, 50]])
    fine = fine_tiles(corners, 40.0, np.array([0]), per_side=2, most=100)
    found = {tuple(corner) for corner in fine.corners.tolist()}
    assert found == {(x, y) for x in (80, 100, 120) for y in (30, 50, 70)}
    # Farther away the middle of a tile would lie on glass.
    around_both = fine_tiles(corners, 40.0, np.array([0, 1]), per_side=4, most=100)
    assert around_both.corners.min(0).tolist() == [80, 30]
    assert around_both.corners.max(0).tolist() == [160, 70]


def test_means_of_overlapping_tiles():
    cells = np.array([[0, 0], [1, 0], [1, 1]])
    values = np.array([[4.0, 0.0], [2.0, 1.0], [0.0, 5.0]])
    found, means = cell_means(cells, 2, values)
    by_cell = {tuple(cell): mean for cell, mean in zip(found.tolist(), means.tolist(), strict=True)}
    assert by_cell == {
        (0, 0): [4.0, 0.0],
        (0, 1): [4.0, 0.0],
        (1, 0): [3.0, 0.5],
        (1, 1): [2.0, 2.0],
        (2, 0): [2.0, 1.0],
        (2, 1): [1.0, 3.0],
        (1, 2): [0.0, 5.0],
        (2, 2): [0.0, 5.0],
    }


def test_the_bags_own_tiles_are_read_where_they_were():
    # Corners of the bag are rounded, each by itself: 0, 114, 227 for a side of 113.3.
    exact = np.array([(x, y) for y in range(3) for x in range(3)]) * 113.3 + 0.4
    corners = np.rint(exact).astype(int)
    fine = fine_tiles(corners, 113.3, np.arange(9), per_side=4, most=1000)
    there = {tuple(corner) for corner in fine.corners.tolist()}
    assert {tuple(corner) for corner in corners.tolist()} <= there
    assert len(there) == len(fine.corners)


def test_the_number_of_tiles_is_bounded_by_leaving_out_those_of_least_attention():
    corners = np.array([(x * 40, 0) for x in range(0, 60, 3)])
    attention = np.linspace(2, 1, 20)
    attended = attended_tiles(attention, 50)
    assert attended.tolist() == list(range(10))
    # Each stands alone: 1 to 4 tiles around it have their middle on it.
    all_of_them = fine_tiles(corners, 40.0, attended, per_side=2, most=1000)
    bounded = fine_tiles(corners, 40.0, attended, per_side=2, most=20)
    assert len(bounded.corners) <= 20 < len(all_of_them.corners)
    assert (bounded.corners[:, 0] < 20 * 40).all()
    assert len(fine_tiles(corners, 40.0, attended, per_side=2, most=1).corners) >= 1


def record(name: str) -> Trained:
    return Trained(
        recipe_name=name,
        recipe=Recipe(name=name, options={}, losses={"cross_entropy": 1}),
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="64px_0.5mpp",
        dim=DIM,
        task=Classification(classes=["normal", "tumour"], positive="tumour"),
        dataset="d",
        seed=1,
        fold=0,
        epoch=1,
    )


def head(name: str, seed: int = 1) -> torch.nn.Module:
    torch.manual_seed(seed)
    built = build_head(name, {}, dim=DIM, classes=2).eval()
    for weight in built.parameters():
        weight.data *= 3
    return built


def log_odds(module: torch.nn.Module, features: torch.Tensor) -> float:
    with torch.inference_mode():
        logits = module(join([features])).logits[0].double()
    return float(logits[1] - logits[0])


@pytest.mark.parametrize(
    "name",
    [
        "abmil",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("branches", "acmil", "clam_mb", "ibmil", "max", "mean", "members", "mhim")
        ),
    ],
)
def test_a_tile_of_the_bag_has_its_own_attention_and_others_are_measured_by_it(name):
    if name == "members":
        module, trained = assemble([head("abmil", seed) for seed in (1, 2)]), record("abmil")
    elif name == "branches":
        module, trained = assemble([head("acmil", seed) for seed in (1, 2)]), record("acmil")
    else:
        module, trained = head(name), record(name)
    module.eval()
    torch.manual_seed(0)
    tiles = torch.randn(9, DIM)
    bag, new = tiles[:7], tiles[7:]
    scored = fine_scores([(module, trained)], join([bag]), tiles.numpy())
    attention = forward(module, trained, join([bag])).attention
    np.testing.assert_allclose(scored.relative[:7], attention * 7, rtol=1e-5)
    # Relative to the bag alone: tiles that come along change nothing.
    alone = fine_scores([(module, trained)], join([bag]), new.numpy())
    np.testing.assert_allclose(scored.relative[7:], alone.relative, rtol=1e-5)
    for number in (0, 8):
        tile = tiles[number, None]
        assert scored.alone[number] == pytest.approx(log_odds(module, tile), rel=1e-5)
        gained = log_odds(module, torch.cat([bag, tile])) - log_odds(module, bag)
        assert scored.effect[number] == pytest.approx(gained, rel=1e-4, abs=1e-5)


def test_percentiles_are_those_of_the_bag():
    bag = np.array([1.0, 2.0, 4.0, 4.0])
    assert percentiles_in(bag, bag).tolist() == [12.5, 37.5, 75.0, 75.0]
    assert percentiles_in(np.array([0.0, 3.0, 9.0]), bag).tolist() == [12.5, 56.25, 75.0]


@pytest.mark.parametrize("stride", [0.0, -0.25, 0.3, 0.05, 2.0])
def test_a_stride_divides_a_tile(stride):
    with one_line(ConfigError, match="divides a tile evenly: 0.5, 0.25 or 0.125"):
        checked(HeatmapConfig, {"stride": stride}, "config")
    strides = [1, 0.5, 0.333, 0.25, 0.125]
    assert [HeatmapConfig(stride=one).cells_per_tile for one in strides] == [1, 2, 3, 4, 8]


def test_heads_whose_tiles_attend_to_one_another_are_refused():
    with one_line(DatasetError, match="tiles attend to one another"):
        check_independent(ensemble(record("abmil").task))


@pytest.mark.slow
def test_a_slide_is_read_again_where_a_head_attends(place, make_head):
    folder = make_head()
    bag = stage_by_stage(place)
    models = load_ensemble(folder)
    config = FeaturesConfig(batch_size=5, precision="fp32")
    [runner] = runners_of(models, folder, config, "cpu")
    out = place / "out/a.fine.png"
    line = run(
        place / "a.tif",
        place / "by_hand/bags/a.h5",
        place / "by_hand/a.h5",
        models,
        runner,
        out,
        RefineSettings(2),
    )
    assert line.startswith("a: ")
    assert out.exists()
    cells = read_csv(out.with_suffix(".csv"))
    assert {row["side"] for row in cells} == {"64"}
    # A stride of a whole tile is the bag's own map.
    fine = fine_tiles(bag.coords, 128.0, np.arange(len(bag.coords)), per_side=1, most=1000)
    assert len(fine.corners) == len(bag.coords)
    with pytest.raises(DatasetError, match=r"give a name that ends with \.png"):
        run(
            place / "a.tif",
            place / "by_hand/bags/a.h5",
            None,
            models,
            runner,
            place / "out/a.jpg",
            RefineSettings(2),
        )


@pytest.mark.slow
def test_tiles_are_read_again_in_the_stains_of_their_bag(place, make_head, monkeypatch):
    pytest.importorskip("torchstain")
    # The tissue of this slide is of one stain.
    monkeypatch.setattr("mil.features.stain.SMALLEST_ANGLE", 0.1)
    folder = make_head(stain_norm="macenko")
    bag = stage_by_stage(place, stain_norm="macenko")
    footprints = footprints_of_bag(bag, read_tiles(place / "by_hand/a.h5").geometry)
    fine = fine_tiles(bag.coords, 128.0, np.arange(len(bag.coords)), per_side=1, most=1000)
    [runner] = runners_of(
        load_ensemble(folder), folder, FeaturesConfig(batch_size=5, precision="fp32"), "cpu"
    )
    features = _embedded(place / "a.tif", footprints, fine, bag, runner, RefineSettings(1))[1]
    np.testing.assert_array_equal(features, bag.features)
