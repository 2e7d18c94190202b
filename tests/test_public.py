"""What `import mil` offers: lazily, without torch until it is needed, and with what it promises."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import mil
from mil.bags import Bags
from mil.errors import ConfigError, FormatError
from mil.heads import build_head
from mil.io.bags import read_bag
from mil.tasks import Classification
from mil.trained import Trained, save_trained
from tests.io.slides.test_images import LARGE, OTHER, ome_of
from tests.messages import one_line
from tests.synthetic import bag_file, tissue_slide


def modules_after(code: str) -> set[str]:
    """Modules that are loaded in a fresh interpreter after some code."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return set(json.loads(finished.stdout))


def test_importing_the_package_imports_next_to_nothing():
    loaded = modules_after("import mil")
    assert {name for name in loaded if name.startswith("mil")} == {"mil", "mil.versions"}
    assert not loaded & {"numpy", "pydantic", "torch", "openslide"}


def test_slides_and_tiles_do_without_torch():
    names = (
        "open_slide",
        "tile_slide",
        "read_tiles",
        "read_bag",
        "read_scores",
        "read_evaluation",
        "load_encoders",
        "head_names",
    )
    loaded = modules_after("import mil\n" + "\n".join(f"mil.{name}" for name in names))
    assert "mil.tile.stage" in loaded
    assert "torch" not in loaded


def test_every_public_name_is_there_and_documented():
    assert set(mil.__all__) == {*mil.PUBLIC, "PUBLIC", "__version__"}
    assert set(mil.PUBLIC) <= set(dir(mil))
    for name in mil.PUBLIC:
        assert getattr(mil, name).__doc__


def test_no_public_name_is_a_module_which_would_replace_it_when_imported():
    clashes = [name for name in mil.PUBLIC if find_spec(f"mil.{name}") is not None]
    assert not clashes


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'mil' has no attribute 'open_slides'"):
        _ = mil.open_slides


def test_a_slide_is_opened_and_tiled_as_the_stage_does_it(tmp_path):
    tissue_slide(tmp_path / "a.tif", (2048, 1536), 0.25)
    with mil.open_slide(str(tmp_path / "a.tif")) as slide:
        assert slide.size_px == (2048, 1536)
        assert slide.read(0.0, 0.0, 448.0, 224).shape == (224, 224, 3)
    tiles = mil.tile_slide(str(tmp_path / "a.tif"), tmp_path / "tiles" / "a.h5")
    assert tiles.geometry.slide == "a"
    assert (tiles.geometry.tile_px, tiles.geometry.target_mpp) == (224, 0.5)
    assert len(tiles.coords)
    again = mil.read_tiles(tmp_path / "tiles" / "a.h5")
    np.testing.assert_array_equal(again.coords, tiles.coords)
    assert (tmp_path / "tiles" / "grid" / "a.jpg").exists()


def test_an_image_of_several_is_named(tmp_path):
    path = ome_of(tmp_path / "a.ome.tif", ("left", LARGE, 0.5), ("right", OTHER, 0.25))
    with mil.open_slide(path, scene="right") as slide:
        assert slide.size_px == OTHER.shape[1::-1]
    tiles = mil.tile_slide(path, tmp_path / "a.h5", scene="1")
    assert tiles.geometry.scene == "1"
    assert tiles.geometry.mpp_level0 == pytest.approx(0.25)


def test_a_slide_that_cannot_be_used_has_a_state(tmp_path):
    tissue_slide(tmp_path / "a.tif", (2048, 1536), 0.25)
    tiles = mil.tile_slide(tmp_path / "a.tif", tmp_path / "a.h5", mpp=20.0)
    assert tiles.geometry.state == "too_coarse"
    assert tiles.geometry.reason


def test_an_encoder_that_does_not_exist(tmp_path):
    with pytest.raises(mil.MilError, match="no encoder named 'resnet19'; there are"):
        mil.tile_slide(tmp_path / "a.tif", tmp_path / "a.h5", encoder="resnet19")


@pytest.fixture
def bags(tmp_path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"s{number}.h5" for number in range(2)]
    for path, count in zip(paths, (5, 8), strict=True):
        bag_file(path, path.stem, rng.normal(size=(count, 6)).astype(np.float16))
    return paths


def test_bags_are_collated_without_padding(bags):
    first, second = map(mil.read_bag, bags)
    together = mil.collate([first, second])
    assert isinstance(together, mil.Bags)
    assert together.features.shape == (13, 6)
    assert together.features.dtype == torch.float32
    assert together.offsets.tolist() == [0, 5, 13]
    head = mil.build_head("mean", {}, dim=6, classes=3)
    assert head(together).logits.shape == (2, 3)
    with pytest.raises(ValueError, match="no bags to join"):
        mil.collate([])


def test_features_alone_are_collated_as_their_bags_are(bags):
    first, second = map(mil.read_bag, bags)
    of_bags = mil.collate([first, second])
    features = mil.collate([first.features, torch.from_numpy(second.features)])
    assert torch.equal(features.features, of_bags.features)
    assert torch.equal(features.offsets, of_bags.offsets)
    assert features.features.dtype == torch.float32
    assert features.coords is None
    turned = mil.collate([first.features[::-1].astype(">f8")])
    assert torch.equal(turned.features.flip(0), of_bags.features[:5])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["a.h5"], "bag 1 is a str; give a Bag"),
        ([np.ones((3, 6)), np.ones(6)], r"bag 2 is a ndarray of float64, shape \(6,\); give a Bag"),
        ([np.ones((3, 6), int)], r"bag 1 is a ndarray of int64, shape \(3, 6\); give a Bag"),
        (3, "a list of bags is needed, not a int"),
        ([torch.ones(3, 6), torch.ones(3, 7)], "bags have 6 and 7 features per tile"),
    ],
)
def test_what_is_no_bag_is_refused_by_its_number(wrong, message):
    with one_line(ConfigError, match=message):
        mil.collate(wrong)


def test_a_bag_is_not_taken_for_a_list_of_bags(bags):
    with one_line(ConfigError, match="a list of bags is needed, not a Bag"):
        mil.collate(mil.read_bag(bags[0]))


@pytest.mark.parametrize(
    ("dim", "classes", "wrong"), [(0, 2, "dim"), (6, -1, "classes"), (6, True, "classes")]
)
def test_a_head_of_an_impossible_size_is_refused(dim, classes, wrong):
    with one_line(ConfigError, match=f"head mean: {wrong}: a whole number above 0 is needed"):
        mil.build_head("mean", dim=dim, classes=classes)
    head = mil.build_head("mean", dim=np.int64(6), classes=np.int64(2))
    assert head(mil.collate([np.ones((3, 6))])).logits.shape == (1, 2)


def test_a_square_without_extent_is_refused(tmp_path):
    tissue_slide(tmp_path / "a.tif")
    with mil.open_slide(tmp_path / "a.tif") as slide:
        for side, size in ((0.0, 8), (8.0, 0), (-8.0, 8)):
            with one_line(ConfigError, match="all must be above 0"):
                slide.read(0.0, 0.0, side, size)


@pytest.fixture
def folder(tmp_path, bags) -> Path:
    """A head's folder, for features as in `bags`."""
    torch.manual_seed(0)
    head = build_head("abmil", {}, dim=6, classes=2)
    trained = Trained(
        recipe_name="abmil",
        recipe=mil.load_recipe("abmil"),
        **read_bag(bags[0]).identity,
        dim=6,
        task=Classification(classes=["normal", "tumour"], positive="tumour"),
        dataset="d",
        seed=1,
        fold=0,
        epoch=1,
    )
    save_trained(tmp_path / "head", trained, head.state_dict(), {})
    return tmp_path / "head"


def test_a_trained_head_scores_a_bag(folder, bags):
    head = mil.load_head(str(folder))
    bag = mil.read_bag(bags[1])
    score = mil.score_bag(head, bag)
    with torch.inference_mode():
        logits = head.module(mil.collate([bag])).logits
    expected = logits.double().softmax(1)[0].numpy()
    assert list(score.predictions) == ["p_normal", "p_tumour"]
    np.testing.assert_allclose(list(score.predictions.values()), expected, atol=1e-6)
    assert score.attention.shape == (8,)
    np.testing.assert_allclose(score.attention.sum(), 1, atol=1e-6)
    np.testing.assert_array_equal(score.coords, bag.coords)
    assert score.selected is None
    assert score.effect is None


def test_a_trained_head_gives_the_evidence_of_each_tile(folder, bags):
    head = mil.load_head(str(folder))
    bag = mil.read_bag(bags[1])
    score = mil.score_bag(head, bag, evidence=True)
    tiles = mil.collate([bag]).features

    def log_odds(chosen):
        with torch.inference_mode():
            logits = head.module(Bags(chosen, torch.tensor([0, len(chosen)]))).logits[0]
        return float(logits[1] - logits[0])

    alone = [log_odds(tile[None]) for tile in tiles]
    np.testing.assert_allclose(score.alone, alone, rtol=1e-4, atol=1e-5)
    numbers = torch.arange(len(tiles))
    effect = [log_odds(tiles) - log_odds(tiles[numbers != tile]) for tile in numbers]
    np.testing.assert_allclose(score.effect, effect, rtol=1e-3, atol=1e-5)


def test_what_a_head_cannot_score_is_named(folder, bags):
    head = mil.load_head(folder)
    bag = mil.read_bag(bags[0])
    with one_line(ConfigError, match=r"head is a PosixPath; give mil.load_head\(FOLDER\)"):
        mil.score_bag(folder, bag)
    with one_line(ConfigError, match="bag is a ndarray; give mil.read_bag"):
        mil.score_bag(head, bag.features)
    tiled = replace(bag, tile_px=512)
    with one_line(FormatError, match="make its bag with encoder .*, tiled 2"):
        mil.score_bag(head, tiled)


def test_a_bag_of_another_length_is_refused(folder, tmp_path):
    bag_file(tmp_path / "other.h5", "other", np.ones((4, 7), np.float16))
    with pytest.raises(FormatError, match=r"other\.h5: 7 features per tile, but 6"):
        mil.score_bag(mil.load_head(folder), mil.read_bag(tmp_path / "other.h5"))


@pytest.mark.parametrize("name", ["read_bag", "read_tiles", "read_scores", "read_evaluation"])
def test_readers_take_a_path_as_text(tmp_path, name):
    with pytest.raises(FormatError, match="none"):
        getattr(mil, name)(str(tmp_path / "none"))


def test_a_bag_is_written_to_a_path_as_text(tmp_path):
    bag_file(tmp_path / "a.h5", "a", np.ones((2, 4)))
    mil.write_bag(str(tmp_path / "b.h5"), mil.read_bag(str(tmp_path / "a.h5")))
    assert (tmp_path / "b.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
