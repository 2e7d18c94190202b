"""From slide and tiles to the bag: values, states, and attributes of the file."""

import json

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mil.cli import app
from mil.config import EncoderConfig, FeaturesConfig, TileConfig
from mil.encoders.build import build_encoder
from mil.errors import ConfigError, FormatError, MilError
from mil.features.extract import ExtractedFeatures
from mil.features.part import FeatureJob, FeatureSettings, encode_slide
from mil.features.stage import Target, run
from mil.io.bags import read_bag
from mil.io.slides import SlideReader, as_array
from mil.io.tiles import read_tiles, write_tiles
from mil.tile import stage as tile_stage
from tests.messages import one_line
from tests.synthetic import make_tiles, spoil_tile, tissue_slide

ENTRY = EncoderConfig(
    timm="test_resnet", dim=96, tile_px=64, mpp=0.5, weights="random", licence="ours"
)


@pytest.fixture
def slide(tmp_path):
    tissue_slide(
        tmp_path / "a.tif", (2048, 1536), 0.25
    )  # tissue: x from 512 to 1536, y from 384 to 1152
    tile_stage.run(
        tmp_path / "a.tif",
        "a",
        tmp_path / "tiles.h5",
        tile_px=64,
        target_mpp=0.5,
        mpp=0.25,
        config=TileConfig(min_tissue=0.6),
    )
    return tmp_path


def embed(folder, **config) -> str:
    torch.manual_seed(5)  # of the random weights
    return run(
        folder / "a.tif",
        folder / "tiles.h5",
        [Target("tiny", ENTRY, folder / "bag.h5")],
        config=FeaturesConfig(**{"precision": "fp32", "batch_size": 5, **config}),
        threads=1,
        device="cpu",
    )


def encoder():
    torch.manual_seed(5)
    return build_encoder("tiny", ENTRY, tile_px=64, device=torch.device("cpu"), precision="fp32")


def test_a_bag_holds_the_features_of_its_tiles(slide):
    assert embed(slide, dtype="float32").startswith("features a: ok, ")
    bag = read_bag(slide / "bag.h5")
    tiles = read_tiles(slide / "tiles.h5")
    built = encoder()
    np.testing.assert_array_equal(bag.coords, tiles.coords)
    assert len(bag.coords) == 48  # 8 by 6 tiles hold tissue
    assert (bag.slide, bag.state, bag.encoder, bag.side_level0_px) == ("a", "ok", "tiny", 128.0)
    assert bag.valid.all()
    with SlideReader(slide / "a.tif") as reader:
        for row in (0, 7, 47):
            x, y = (float(value) for value in bag.coords[row])
            pixels = torch.from_numpy(as_array(reader.read(x, y, 128.0, 64)).copy())
            np.testing.assert_allclose(
                bag.features[row], built(pixels[None])[0], rtol=1e-4, atol=1e-4
            )
    assert np.abs(bag.features[0] - bag.features[7]).max() > 1e-3


def test_the_file_has_its_encoder_and_tiles(slide):
    embed(slide)
    with h5py.File(slide / "bag.h5") as file:
        assert file["features"].dtype == np.float16
        assert {k: file.attrs[k] for k in encoder().identity} == encoder().identity
        assert file.attrs["tile_digest"] == read_tiles(slide / "tiles.h5").digest
        assert file.attrs["transform"].startswith("64 px, /255, mean (0.5, 0.5, 0.5), std (0.5")
        assert (
            file.attrs["mpp_level0"],
            file.attrs["target_mpp"],
            file.attrs["invalid_tiles"],
        ) == (0.25, 0.5, 0)


def test_twice_the_same_bytes(slide):
    contents = []
    for _ in range(2):
        embed(slide)
        contents.append((slide / "bag.h5").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("max_corrupt", "state"), [(0.0, "corrupt_regions"), (0.5, "ok")])
def test_unreadable_tiles_are_counted(slide, max_corrupt, state):
    spoil_tile(
        slide / "a.tif", 18
    )  # of 256 px, 8 a row: x and y from 512 to 767, which is 4 of our tiles
    line = embed(slide, max_corrupt=max_corrupt)
    bag = read_bag(slide / "bag.h5")
    assert (bag.state, bag.reason) == (state, "4 of 48 tiles cannot be decoded")
    assert bag.reason in line
    assert bag.coords[~bag.valid].tolist() == [[512, 512], [640, 512], [512, 640], [640, 640]]
    assert (bag.features[~bag.valid] == 0).all()
    assert (np.abs(bag.features[bag.valid]).max(1) > 0).all()
    with h5py.File(slide / "bag.h5") as file:
        assert file.attrs["invalid_tiles"] == 4


@pytest.mark.parametrize("state", ["no_tissue", "no_mpp", "unreadable"])
def test_a_slide_that_is_not_ok_gives_an_empty_bag(tmp_path, state):
    write_tiles(
        tmp_path / "tiles.h5",
        make_tiles(np.zeros((0, 2)), slide="a", state=state, reason="because", mpp=0.25),
    )
    assert (
        embed(tmp_path) == f"features a: {state}, no tiles"
    )  # the slide's file is not even looked for
    bag = read_bag(tmp_path / "bag.h5")
    assert (bag.slide, bag.state, bag.reason, bag.encoder) == ("a", state, "because", "tiny")
    assert (bag.features.shape, bag.coords.shape) == ((0, 96), (0, 2))


def test_features_that_float16_cannot_hold_are_one_line(slide, monkeypatch):
    monkeypatch.setattr(
        "mil.features.stage.extract",
        lambda *_, **__: ExtractedFeatures([np.full((48, 96), np.inf)], np.ones(48, bool), 48),
    )
    with pytest.raises(FormatError, match=r"set features\.dtype=float32"):
        embed(slide)
    assert not (slide / "bag.h5").exists()


def test_a_slide_of_which_nothing_can_be_read_is_corrupt_whatever_is_allowed(slide, monkeypatch):
    monkeypatch.setattr(
        "mil.features.stage.extract",
        lambda *_, **__: ExtractedFeatures([np.zeros((48, 96))], np.zeros(48, bool), 48),
    )
    assert "corrupt_regions" in embed(slide, max_corrupt=1.0)
    assert read_bag(slide / "bag.h5").state == "corrupt_regions"


def test_several_encoders_give_the_bags_that_each_gives_alone(slide):
    wide = ENTRY.model_copy(update={"timm": "test_vit2", "dim": 64, "args": {"img_size": 64}})
    targets = [Target("tiny", ENTRY, slide / "tiny.h5"), Target("wide", wide, slide / "wide.h5")]
    config = FeaturesConfig(precision="fp32")

    def go(*chosen: Target) -> tuple[str, list[bytes]]:
        torch.manual_seed(5)
        line = run(
            slide / "a.tif", slide / "tiles.h5", chosen, config=config, threads=2, device="cpu"
        )
        return line, [target.out.read_bytes() for target in chosen]

    line, together = go(*targets)
    assert line.startswith("features a: ok, 48 tiles by 2 encoders, ")
    assert [read_bag(target.out).encoder for target in targets] == ["tiny", "wide"]
    assert go(targets[0])[1] == together[:1]


def test_an_encoder_that_fails_spoils_no_others_bag(slide, monkeypatch):
    extracted = ExtractedFeatures(
        [np.full((48, 96), np.inf), np.ones((48, 96))], np.ones(48, bool), 48
    )
    monkeypatch.setattr("mil.features.stage.extract", lambda *_, **__: extracted)
    targets = [Target(name, ENTRY, slide / f"{name}.h5") for name in ("bad", "good")]
    with pytest.raises(
        FormatError, match=r"^a: bad returns features that are not finite in float16"
    ):
        run(
            slide / "a.tif",
            slide / "tiles.h5",
            targets,
            config=FeaturesConfig(),
            threads=1,
            device="cpu",
        )
    assert not targets[0].out.exists()
    assert (read_bag(targets[1].out).features == 1).all()


def test_the_bag_has_the_settings_of_its_encoder(slide):
    embed(slide)
    assert json.loads(read_bag(slide / "bag.h5").encoder_settings)["timm"] == "test_resnet"


def test_an_empty_bag_has_them_too(tmp_path):
    write_tiles(
        tmp_path / "tiles.h5", make_tiles(np.zeros((0, 2)), slide="a", state="no_tissue", mpp=0.25)
    )
    embed(tmp_path)
    assert read_bag(tmp_path / "bag.h5").encoder_settings == ENTRY.settings()


def test_tiles_of_another_slide_are_refused(slide):
    tissue_slide(slide / "a.tif", (1024, 768), 0.25)
    with pytest.raises(
        FormatError,
        match=r"tiles\.h5: its slide has 2048 x 1536 px, but .*a\.tif has 1024 x 768 px",
    ):
        embed(slide)
    assert not (slide / "bag.h5").exists()


@pytest.mark.parametrize("state", ["ok", "no_tissue"])
def test_tiles_of_the_same_size_by_another_name_are_refused(tmp_path, state):
    tiles = make_tiles(np.zeros((1, 2)), slide="b", state=state, mpp=0.25)
    write_tiles(tmp_path / "a.h5", tiles)
    job = FeatureJob(
        "a",
        tmp_path / "a.tif",
        tmp_path / "a.h5",
        (Target("tiny", ENTRY, tmp_path / "bag.h5"),),
        FeatureSettings(FeaturesConfig(), 1, "cpu"),
    )
    with one_line(FormatError, match=r"a\.h5: its tiles are of the slide 'b', not 'a'"):
        encode_slide(job, job.outputs())
    assert not (tmp_path / "bag.h5").exists()


@pytest.mark.parametrize(("slide", "options"), [("_b_", []), ("case 7", ["--name", "case 7"])])
def test_by_hand_a_slide_has_the_id_that_its_tiles_have(tmp_path, slide, options):
    write_tiles(tmp_path / "a.h5", make_tiles(np.zeros((0, 2)), slide=slide, state="no_tissue"))
    files = ["--slide", '"b".ome.tif', "--tiles", str(tmp_path / "a.h5")]
    done = CliRunner().invoke(
        app, ["features", *files, "--out", str(tmp_path / "bag.h5"), *options]
    )
    assert (done.exit_code, done.exception) == (0, None)
    assert read_bag(tmp_path / "bag.h5").slide == slide


def test_a_model_too_large_for_its_device_is_one_line(slide, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mil.encoders.build.build_encoder", full)
    with pytest.raises(
        ConfigError, match=r"^encoder tiny: the memory of cpu does not hold the model and one tile"
    ):
        embed(slide)


@pytest.mark.parametrize("name", ["a.tif", "tiles.h5", "notes.h5"])
def test_the_slide_its_tiles_and_other_files_are_not_replaced(slide, name):
    (slide / "notes.h5").write_text("notes")
    before = (slide / name).read_bytes()
    with pytest.raises(MilError, match="would be lost"):
        run(
            slide / "a.tif",
            slide / "tiles.h5",
            [Target("tiny", ENTRY, slide / name)],
            config=FeaturesConfig(),
            threads=1,
            device="cpu",
        )
    assert (slide / name).read_bytes() == before
