"""Heads that fit together, and one line about those that do not before anything is written."""

from dataclasses import replace

import pytest
import yaml

from mil.config import FeaturesConfig, HeatmapConfig, TileConfig
from mil.errors import MilError
from mil.io.bags import read_header
from mil.io.tables import read_csv
from mil.io.tiles import write_tiles
from mil.predict.drawing import failed_slide
from mil.predict.ensemble import load_ensemble
from mil.predict.settings import PredictionSettings
from mil.predict.stage import run
from tests.messages import one_line
from tests.predict.made import TWO, ensemble
from tests.synthetic import make_tiles


def refused(place, slides=("a.tif",), head="heads") -> str:
    with one_line(MilError) as caught:
        run(
            [place / slide for slide in slides],
            place / head,
            place / "out",
            mpp=None,
            threads=1,
            device="cpu",
            heatmaps=True,
            keep_bags=None,
            say=lambda _: None,
        )
    assert not (place / "out").exists()
    return str(caught.value).replace(f"{place}/", "")


def test_a_folder_without_heads(place):
    assert refused(place, head="nowhere").startswith(
        "nowhere: no such folder; give a folder with recipe.json and"
    )
    (place / "heads").mkdir()
    assert refused(place).startswith("heads: has no trained head in it; ")


def test_an_encoder_without_an_entry(place, make_head):
    make_head(encoder="tinny")
    said = refused(place)
    assert said.startswith(
        "heads/one: was trained on features of tinny, which has no entry in configs/encoders.yaml; "
    )
    assert "did you mean 'tiny'?" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"weights_sha256": "f" * 64},
            "heads: was trained on tiny with weights ffffffffffff and 96 features a tile, ",
        ),
        (
            {"weights_sha256": ""},
            "heads/one: does not say which weights of tiny it was trained on; import the head "
            "again",
        ),
        (
            {"tiling": "64px_e.e-mpp"},
            "heads/one: does not say how large its tiles were (64px_e.e-mpp); import the head ",
        ),
        (
            {"tiling": "0px_0.5mpp"},
            "heads/one: does not say how large its tiles were (0px_0.5mpp); import the head again",
        ),
        (
            {"tiling": "64px_0mpp"},
            "heads/one: does not say how large its tiles were (64px_0mpp); import the head again ",
        ),
        (
            {"tiling": "unknownpx_unknownmpp"},
            "heads/one: does not say how large its tiles were (unknownpx_unknownmpp); ",
        ),
    ],
)
def test_an_encoder_that_is_another_or_not_known(place, make_head, changes, message):
    make_head(**changes)
    assert refused(place).startswith(message)


def test_heads_of_two_recipes_or_of_different_features(place, make_head):
    make_head("heads/one")
    make_head("heads/two", seed=2, recipe_name="aem")
    assert refused(place).endswith("give heads of one recipe and task")
    make_head("heads/two", seed=2, tiling="64px_1mpp")
    assert refused(place).startswith(
        "heads/two: tiling is 64px_1mpp, but 64px_0.5mpp in heads/one; give heads that "
    )
    make_head("heads/two", seed=2, dataset="other")
    assert (
        refused(place) == "heads/two: dataset is other, but d in heads/one; give heads of one study"
    )


def test_slides_of_one_name(place, make_head):
    make_head()
    said = refused(place, slides=("a.tif", "more/A.svs"))
    assert said.startswith("more/A.svs: has the id A of a.tif, and so would its files; ")
    said = refused(place, slides=("o'f.tif", "o_f.ome.tif"))
    assert said.startswith("o_f.ome.tif: has the id o_f of o'f.tif")


def test_ids_of_new_slides_are_those_that_init_gives(place, make_head):
    make_head()
    names = ["A.ome.tif", "UID.1.2", "o'f 1.svs", "a*.tif", "caf\udce9.tif"]
    said: list[str] = []
    run(
        [place / name for name in names],
        place / "heads",
        place / "out",
        mpp=None,
        threads=1,
        device="cpu",
        heatmaps=False,
        keep_bags=None,
        say=said.append,
    )
    rows = read_csv(place / "out" / "predictions.csv")
    assert [row["slide"] for row in rows] == ["A", "UID.1.2", "o_f 1", "a_", "caf_"]
    assert {row["reason"] for row in rows} == {"no such file"}


def test_heads_are_found_at_any_depth_in_the_order_of_seeds(place, make_head):
    for name, seed in (("heads/x/seed10", 10), ("heads/seed2", 2), ("heads/x/y/seed1", 1)):
        make_head(name, seed=seed)
    found = load_ensemble(place / "heads")
    assert [trained.seed for _, trained in found.models] == [1, 2, 10]
    assert (found.encoder.tile_px, found.encoder.mpp, found.streams) == (64, 0.5, True)
    assert not found.joined


def test_heads_of_several_runs_are_said(place, make_head):
    for name in ("seed1_fold0of1", "seed1_fold0of5", "seed1_fold1of5"):
        make_head(f"heads/{name}", fold=int(name[10]))
    assert load_ensemble(place / "heads").divisions == (1, 5)
    assert load_ensemble(place / "heads" / "seed1_fold1of5").divisions == (5,)
    said: list[str] = []
    run(
        [place / "none.tif"],
        place / "heads",
        place / "out",
        mpp=None,
        threads=1,
        device="cpu",
        heatmaps=False,
        keep_bags=None,
        say=said.append,
    )
    assert said[:2] == [
        "abmil: ensemble of 3 heads (1 seed, 2 folds)",
        "abmil: these heads are of several runs, folds=1 and folds=5, and all are averaged; copy "
        "those you want into a "
        "folder of their own",
    ]


def test_a_broken_settings_file_is_one_line(place, make_head):
    make_head()
    (place / "configs" / "config.yaml").write_text(yaml.safe_dump({"tile": {"min_tisue": 0.5}}))
    assert "did you mean 'min_tissue'?" in refused(place)


@pytest.mark.parametrize("encoders", [1, 2])
def test_the_bag_of_a_slide_that_failed_states_no_settings_of_one_of_several_encoders(
    tmp_path, encoders
):
    write_tiles(tmp_path / "s1.h5", make_tiles(slide="s1"))
    one = ensemble(TWO)
    one = replace(one, encoders=one.encoders * encoders)
    bags = tmp_path / "bags"
    settings = PredictionSettings(
        TileConfig(), FeaturesConfig(), HeatmapConfig(), None, 1, None, bags
    )
    failed_slide("unreadable", "cut off", tmp_path / "s1.h5", one, settings)
    assert read_header(bags / "s1.h5").state == "unreadable"
    stated = read_header(bags / "s1.h5").encoder_settings
    assert stated == ("" if one.joined else one.encoder.entry.settings())
