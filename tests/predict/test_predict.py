"""Predictions of new slides: the same numbers as stage by stage, and a state for each failure."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mil.cli import app
from mil.config import FeaturesConfig, TileConfig, load_encoder
from mil.encoders.runner import BatchedEncoder
from mil.errors import ConfigError, DatasetError
from mil.features import stage as features_stage
from mil.io.bags import read_bag
from mil.io.bags.join import join_bags
from mil.io.tables import read_csv
from mil.predict import slide, stage
from mil.predict.curve import SETTLED
from mil.predict.running import Running
from mil.tile import stage as tile_stage
from mil.trained import Calibration, apply, load_trained
from tests.messages import one_line
from tests.scored import heatmap
from tests.synthetic import glass, spoil_tile, tissue_slide, write_slide

BUNDLE = ("a.png", "a.geojson", "a.csv")


def predict(place, slides=("a.tif",), head="heads", out="out", **changes):
    given = {
        "mpp": None,
        "threads": 1,
        "device": "cpu",
        "heatmaps": True,
        "keep_bags": None,
        **changes,
    }
    said: list[str] = []
    stage.run(
        [place / name for name in slides], place / head, place / out, say=said.append, **given
    )
    return {row["slide"]: row for row in read_csv(place / out / "predictions.csv")}, said


def stage_by_stage(place, **features):
    """The bag of slide a, as the stages make it."""
    target = features_stage.Target(
        "tiny", load_encoder("tiny"), place / "by_hand" / "bags" / "a.h5"
    )
    tile_stage.run(
        place / "a.tif",
        "a",
        place / "by_hand" / "a.h5",
        tile_px=64,
        target_mpp=0.5,
        mpp=None,
        config=TileConfig(min_tissue=0.6),
    )
    features_stage.run(
        place / "a.tif",
        place / "by_hand" / "a.h5",
        [target],
        config=FeaturesConfig(batch_size=5, precision="fp32", **features),
        threads=1,
        device="cpu",
    )
    return read_bag(place / "by_hand" / "bags" / "a.h5")


@pytest.mark.parametrize(
    "name",
    [
        "acmil",
        "dsmil",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("abmil", "clam_mb", "max", "mean", "transmil", "graph_select")
        ),
    ],
)
def test_the_same_numbers_as_stage_by_stage(place, make_head, name):
    folder = make_head(head=name)
    rows, said = predict(place)
    expected = apply(*load_trained(folder), stage_by_stage(place))
    found = [float(rows["a"][f"p_{c}"]) for c in ("normal", "tumour")]
    np.testing.assert_allclose(found, expected.predictions, rtol=1e-6)
    assert (rows["a"]["state"], rows["a"]["tiles"], rows["a"]["heads"], rows["a"]["sd_tumour"]) == (
        "ok",
        "48",
        "1",
        "",
    )
    assert rows["a"]["called"] == ("tumour" if found[1] > 0.5 else "normal")
    table = read_csv(place / "out" / "heatmap" / "a.csv")
    np.testing.assert_allclose(
        [float(row["attention"]) for row in table], expected.attention, rtol=2e-5, atol=1e-8
    )
    waits = name in ("transmil", "dsmil", "graph_select")
    assert any("looks at all tiles of a slide together" in line for line in said) == waits


def test_the_bundle_and_the_kept_bag_are_those_of_the_stages(place, make_head):
    folder = make_head(head="transmil")  # from the whole bag: the very same numbers
    predict(place, keep_bags=place / "kept")
    stage_by_stage(place)
    assert (place / "kept" / "a.h5").read_bytes() == (
        place / "by_hand" / "bags" / "a.h5"
    ).read_bytes()
    heatmap(
        [folder],
        place / "by_hand" / "bags" / "a.h5",
        place / "by_hand" / "a.h5",
        place / "drawn" / "a.png",
        folds=None,
        annotation=None,
        scale="percentile",
    )
    for name in BUNDLE:
        assert (place / "out" / "heatmap" / name).read_bytes() == (
            place / "drawn" / name
        ).read_bytes(), name
    # Eight tiles in a row.
    with Image.open(place / "out" / "heatmap" / "a.tiles.jpg") as sheet:
        assert sheet.width > 8 * 64


@pytest.mark.slow
def test_a_streaming_head_gives_the_same_with_its_bag_kept(place, make_head):
    make_head()
    first, _ = predict(place, heatmaps=False)
    assert predict(place, out="other", keep_bags=place / "kept", heatmaps=False)[0] == first
    assert read_bag(place / "kept" / "a.h5").features.shape == (48, 96)


@pytest.mark.slow
def test_stains_are_normalised_for_a_head_of_such_bags(place, make_head, monkeypatch):
    pytest.importorskip("torchstain")
    # The tissue of this slide is of one stain.
    monkeypatch.setattr("mil.features.stain.SMALLEST_ANGLE", 0.1)
    make_head(stain_norm="macenko", head="acmil")
    predict(place, keep_bags=place / "kept", heatmaps=False)
    kept = read_bag(place / "kept" / "a.h5")
    by_hand = stage_by_stage(place, stain_norm="macenko")
    np.testing.assert_array_equal(kept.features, by_hand.features)
    assert kept.stain == by_hand.stain
    assert kept.identity["stain_norm"] == "macenko"


@pytest.mark.slow
def test_a_head_of_an_unknown_stain_normalisation_is_refused(place, make_head):
    make_head(stain_norm="reinhard")
    with one_line(ConfigError, "stain_norm: .*'none' or 'macenko'"):
        predict(place)


def test_several_heads_are_averaged_and_their_spread_is_said(place, make_head):
    for seed in (1, 2):
        make_head(f"heads/seed{seed}_fold0of1", seed=seed)
    rows, said = predict(place, heatmaps=False)
    alone = [
        predict(place, head=f"heads/seed{n}_fold0of1", out=f"o{n}", heatmaps=False)[0]
        for n in (1, 2)
    ]
    each = [float(found["a"]["p_tumour"]) for found in alone]
    found = [float(rows["a"][f"{what}_tumour"]) for what in ("p", "sd", "min", "max")]
    np.testing.assert_allclose(
        found, [np.mean(each), np.std(each, ddof=1), min(each), max(each)], rtol=1e-6
    )
    assert rows["a"]["heads"] == "2"
    assert said[0] == "abmil: ensemble of 2 heads (2 seeds, 1 fold)"
    assert (
        f"p(tumour) = {np.mean(each):.3f} (threshold 0.500, sd {np.std(each, ddof=1):.3f} over 2 "
        "heads)" in said[2]
    )


def test_answers_are_calibrated_while_reading_and_at_the_end(place, make_head):
    folder = make_head(calibration=Calibration(temperature=3.0, threshold=0.4))
    rows, _ = predict(place, heatmaps=False)
    bag = stage_by_stage(place)
    head, trained = load_trained(folder)
    bare = apply(head, trained.model_copy(update={"calibration": None}), bag).predictions
    logits = np.log(bare) / 3
    expected = np.exp(logits) / np.exp(logits).sum()
    assert abs(expected[1] - bare[1]) > 1e-3
    np.testing.assert_allclose(
        [float(rows["a"][f"p_{name}"]) for name in trained.classes], expected, rtol=1e-5
    )
    assert (rows["a"]["temperature"], rows["a"]["threshold"]) == ("3", "0.4")
    assert rows["a"]["called"] == ("tumour" if expected[1] >= 0.4 else "normal")
    running = Running([(head, trained)], len(bag.features))
    running.add(bag.features)
    np.testing.assert_allclose(running.predictions()[0], expected, rtol=1e-5)


def test_a_head_of_patients_says_so(place, make_head):
    make_head(fusion="early")
    assert "each slide is predicted by itself" in predict(place, heatmaps=False)[1][0]


@pytest.mark.slow
def test_twice_the_same_bytes_for_any_number_of_threads(place, make_head):
    make_head()
    for out, threads in (("one", 1), ("two", 3)):
        predict(place, out=out, threads=threads)
    for name in ("predictions.csv", *(f"heatmap/{name}" for name in BUNDLE)):
        assert (place / "one" / name).read_bytes() == (place / "two" / name).read_bytes(), name


def test_one_slide_does_not_stop_the_others(place, make_head):
    make_head()
    tissue_slide(place / "b.tif", mpp=None)
    write_slide(place / "c.tif", glass((1024, 768)), 0.5)
    (place / "d.tif").write_text("<html>not found</html>")
    names = ["b.tif", "c.tif", "d.tif", "e.tif", "a.tif"]
    done = CliRunner().invoke(app, ["predict", *names, "--head", "heads", "--out", "out"])
    assert done.exit_code == 1
    rows = {row["slide"]: row for row in read_csv(place / "out" / "predictions.csv")}
    states = {"b": "no_mpp", "c": "no_tissue", "d": "unreadable", "e": "unreadable", "a": "ok"}
    assert {name: row["state"] for name, row in rows.items()} == states
    assert all(rows[name]["p_tumour"] == "" and rows[name]["reason"] for name in "bcde")
    lines = dict(line.removeprefix("predict ").split(": ", 1) for line in done.output.splitlines())
    assert lines["b"].startswith("no_mpp: ")
    assert "never a guess: --mpp, " in lines["b"]
    assert "no tile with enough tissue" in lines["c"]
    assert "a web page" in lines["d"]
    assert lines["e"] == "unreadable: no such file; correct its path, or put its file there"
    assert lines["a"].startswith("ok, p(tumour) = ")
    assert all((place / "out" / "heatmap" / f"{name}.png").exists() for name in "abcde")


def test_a_pixel_size_that_is_given_goes_before_the_slides_own(place, make_head):
    make_head()
    tissue_slide(place / "b.tif", (2048, 1536), None)
    rows, _ = predict(place, ("a.tif", "b.tif"), mpp=0.25, heatmaps=False)
    assert {name: row["tiles"] for name, row in rows.items()} == {"a": "48", "b": "48"}


@pytest.mark.parametrize(
    ("most", "state", "tiles"),
    [
        pytest.param(0.01, "corrupt_regions", "0", marks=pytest.mark.slow),
        (0.5, "ok", "44"),
    ],
)
def test_unreadable_tiles_take_no_part_or_are_too_many(
    place, make_head, monkeypatch, most, state, tiles
):
    make_head()
    (place / "configs" / "config.yaml").write_text(
        f"tile: {{min_tissue: 0.6}}\nfeatures: {{batch_size: 5, max_corrupt: {most}}}\n"
    )
    real = slide.tile

    def tile_then_spoil(*given, **named):
        found = real(*given, **named)
        spoil_tile(
            place / "a.tif", 18
        )  # of 256 px, 8 a row: x and y from 512 to 767, which is 4 of our tiles
        return found

    monkeypatch.setattr(slide, "tile", tile_then_spoil)
    rows, said = predict(place, keep_bags=place / "kept")
    assert (rows["a"]["state"], rows["a"]["tiles"]) == (state, tiles)
    assert "4 of 48 tiles cannot be decoded" in said[-1]
    assert (
        read_bag(place / "kept" / "a.h5").state,
        (~read_bag(place / "kept" / "a.h5").valid).sum(),
    ) == (state, 4)
    assert len(read_csv(place / "out" / "heatmap" / "a.csv")) == int(tiles)


def test_features_that_are_not_finite_are_said_and_stop_no_other(place, make_head, monkeypatch):
    make_head()
    tissue_slide(place / "b.tif", (2048, 1536), 0.25)
    real = BatchedEncoder.__call__
    calls = iter(range(100))
    monkeypatch.setattr(
        BatchedEncoder,
        "__call__",
        lambda self, pixels: real(self, pixels) * (1e9 if next(calls) == 0 else 1),
    )
    rows, said = predict(place, ("a.tif", "b.tif"))
    assert [rows[name]["state"] for name in "ab"] == ["failed", "ok"]
    assert "features.dtype: float32" in said[1]
    assert not (place / "out" / "heatmap" / "a.png").exists()


def test_no_heatmap_writes_the_table_alone(place, make_head):
    make_head()
    predict(place, heatmaps=False)
    assert [path.name for path in (place / "out").iterdir()] == ["predictions.csv"]


def test_rows_are_there_before_all_slides_are_done(place, make_head, monkeypatch):
    make_head()
    tissue_slide(place / "b.tif", (2048, 1536), 0.25)

    real = stage.predict

    def killed_at_b(slide, name, *rest):
        if name == "b":
            raise KeyboardInterrupt
        return real(slide, name, *rest)

    monkeypatch.setattr(stage, "predict", killed_at_b)
    with pytest.raises(KeyboardInterrupt):
        predict(place, ("a.tif", "b.tif"), heatmaps=False)
    assert [row["state"] for row in read_csv(place / "out" / "predictions.csv")] == [
        "ok",
        "not reached",
    ]


def test_answers_for_other_slides_are_not_written_over(place, make_head):
    make_head()
    both = ("missing.tif", "gone.tif")
    rows, _ = predict(place, both, heatmaps=False)
    assert set(rows) == {"missing", "gone"}
    assert set(predict(place, both, heatmaps=False)[0]) == {
        "missing",
        "gone",
    }  # the same again is fine
    before = (place / "out" / "predictions.csv").read_bytes()
    with pytest.raises(
        DatasetError,
        match=r"has predictions of slides that are not among these \(gone\), which would be",
    ):
        predict(place, ("missing.tif",), heatmaps=False)
    assert (place / "out" / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("pattern", ["none/*.svs", "slide_?.tif", "s[12].tif"])
def test_a_pattern_that_no_file_matches_is_told_as_such(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["predict", pattern, "--head", "heads", "--out", "out"])
    assert str(done.exception) == f"{pattern}: no file matches this pattern; look at the folder"


def test_a_head_that_looks_at_all_tiles_has_no_curve(place, make_head):
    make_head(head="transmil")
    with one_line(ConfigError, "head transmil looks at all tiles of a slide together, and has no"):
        predict(place, curve=True)
    assert not (place / "out").exists()


@pytest.mark.slow
def test_a_curve_ends_at_the_prediction_and_changes_nothing_else(place, make_head):
    for seed in (1, 2):
        make_head(f"heads/seed{seed}_fold0of1", seed=seed)
    slides = ["a.tif", "empty.tif"]
    write_slide(place / "empty.tif", glass((1024, 768)), 0.25)
    before, _ = predict(place, slides, heatmaps=False)
    rows, said = predict(place, slides, out="curved", heatmaps=False, curve=True)
    curve = read_csv(place / "curved" / "curve" / "a.csv")
    assert [row["tiles"] for row in curve][-1] == rows["a"]["tiles"] == "48"
    assert len(curve) == 20
    assert float(curve[-1]["p_tumour"]) == pytest.approx(float(rows["a"]["p_tumour"]), rel=1e-5)
    assert curve[-1]["called"] == rows["a"]["called"]
    assert sum("in 10 random orders" in line for line in said) == 1
    settled = {name: rows["a"].pop(name) for name in SETTLED}
    assert float(settled["settled_low"]) <= float(settled["settled"]) <= 1
    assert {rows["empty"].pop(name) for name in SETTLED} == {""}
    assert rows == before
    assert not (place / "curved" / "curve" / "empty.csv").exists()


def joined_by_hand(place):
    """The joined bag of slide a at 0.5 and 1 µm per pixel, as the stages make it."""
    paths = []
    for mpp in (0.5, 1.0):
        folder = place / f"by_hand/{mpp}"
        tile_stage.run(
            place / "a.tif",
            "a",
            folder / "tiles/a.h5",
            tile_px=64,
            target_mpp=mpp,
            mpp=None,
            config=TileConfig(min_tissue=0.6),
        )
        features_stage.run(
            place / "a.tif",
            folder / "tiles/a.h5",
            [features_stage.Target("tiny", load_encoder("tiny"), folder / "a.h5")],
            config=FeaturesConfig(batch_size=5, precision="fp32"),
            threads=1,
            device="cpu",
        )
        paths.append(folder / "a.h5")
    return join_bags([read_bag(path) for path in paths], paths)


@pytest.fixture
def joined_head(make_head, weights_sha256):
    weights = f"{weights_sha256}+{weights_sha256}"
    return make_head(encoder="tiny@0.5+tiny@1", weights_sha256=weights, dim=192)


@pytest.mark.slow
def test_a_head_of_joined_encoders_predicts_as_stage_by_stage(place, joined_head):
    rows, said = predict(place, keep_bags=place / "kept")
    bag, without = joined_by_hand(place)
    assert bag.features.shape == (48, 192)
    # At the border of the tissue coarser tiles hold less of it than `min_tissue`.
    assert without == (16,)
    kept = read_bag(place / "kept/a.h5")
    np.testing.assert_array_equal(kept.features, bag.features)
    assert kept.encoder_settings == bag.encoder_settings
    expected = apply(*load_trained(joined_head), bag)
    found = [float(rows["a"][f"p_{name}"]) for name in ("normal", "tumour")]
    np.testing.assert_allclose(found, expected.predictions, rtol=1e-6)
    assert (rows["a"]["state"], rows["a"]["tiles"]) == ("ok", "48")
    table = read_csv(place / "out/heatmap/a.csv")
    np.testing.assert_allclose(
        [float(row["attention"]) for row in table], expected.attention, rtol=2e-5, atol=1e-8
    )
    assert "abmil: features of 2 tilings or encoders are joined: each slide is read" in said[0]


@pytest.mark.slow
def test_a_slide_that_fails_has_its_state_with_joined_encoders_too(place, joined_head):
    write_slide(place / "glass.tif", glass((1024, 768), 1), 0.5)
    rows, _ = predict(place, slides=("glass.tif", "a.tif"), keep_bags=place / "kept")
    assert rows["glass"]["state"] == "no_tissue"
    assert rows["a"]["state"] == "ok"
    assert read_bag(place / "kept/glass.h5").state == "no_tissue"
    assert (place / "out/heatmap/glass.png").exists()


def test_a_head_of_joined_encoders_has_no_curve_and_other_weights_are_refused(place, make_head):
    make_head(encoder="tiny@0.5+tiny@1", weights_sha256="a+b", dim=192)
    with one_line(ConfigError, "read, so that there is no prediction of a part of them"):
        predict(place, curve=True)
    with one_line(ConfigError, r"with weights a\+b and 192 features a tile, but .* 192 features"):
        predict(place)
    make_head(encoder="tiny@1+tiny@0.5", weights_sha256="a+b", dim=192)
    with one_line(ConfigError, "do not state all of their tiles"):
        predict(place)
