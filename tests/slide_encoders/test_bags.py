"""Bags and published slide encoders: refusals, weights, and what vectors state."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from mil.cli import app
from mil.config.base import config_path
from mil.config.slide_encoders import load_slide_encoder
from mil.config.slide_encoders_of_run import check_slide_encoders
from mil.embed.stage import EmbedJob, run
from mil.errors import ConfigError, DatasetError
from mil.io.vectors import read_vectors
from mil.slide_encoders import build, chief
from mil.slide_encoders.availability import fetch_slide_weights, slide_weights_status
from mil.slide_encoders.build import build_slide_encoder, new_model
from tests.encoders.hub import play
from tests.messages import one_line
from tests.synthetic import bag_file

# Tiles as CHIEF takes them.
RIGHT = {"tile_px": 224, "target_mpp": 256 / 224, "encoder": {"encoder": "chief_ctranspath"}}
FEATURES = np.random.default_rng(1).normal(size=(5, 768))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "chief.safetensors"
    torch.manual_seed(1)
    save_file(new_model("chief").state_dict(), path)
    return path


def bag(folder, features=FEATURES, **changes):
    path = folder / "a.h5"
    bag_file(path, "a", features, **{**RIGHT, **changes})
    return path


def embed(path, weights, name="chief", **others):
    job = EmbedJob(path, path.with_name("vectors.h5"))
    (result,) = run(name, [], [job], threads=1, weights=weights, **others)
    return result


def test_a_vector_is_of_the_valid_tiles_and_names_the_weights(tmp_path, weights):
    valid = np.arange(5) != 2
    path = bag(tmp_path, valid=valid)
    assert embed(path, weights).line == "a: 4 tiles to 768 numbers"
    stored = read_vectors(tmp_path / "vectors.h5")
    encoder = build_slide_encoder("chief", weights=weights)
    features = torch.from_numpy(FEATURES.astype(np.float16)[valid]).float()
    torch.testing.assert_close(torch.from_numpy(stored.vectors[0]), encoder.model(features))
    header = stored.header
    assert (header.slide_encoder, header.heads) == ("chief", ())
    assert header.slide_encoder_sha256 == encoder.weights_sha256
    assert header.slide_encoder_revision == "chief.safetensors"
    # Current vectors stay, whatever the file is called; those of other weights do not.
    same = shutil.copy(weights, tmp_path / "same.safetensors")
    assert embed(path, same, keep=True).line == ""
    tensors = {name: tensor + 1 for name, tensor in encoder.model.state_dict().items()}
    save_file(tensors, tmp_path / "other.safetensors")
    assert embed(path, tmp_path / "other.safetensors", keep=True).line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder": {"encoder": "ctranspath"}},
            "its features are by ctranspath, slide encoder chief stands on chief_ctranspath",
        ),
        (
            {"features": FEATURES[:, :512]},
            "its features have 512 numbers, those of chief_ctranspath, which slide encoder chief "
            "stands on, have 768",
        ),
        ({"target_mpp": 0.5}, "its tiles are 112 µm wide, slide encoder chief takes those of 256"),
    ],
)
def test_other_bags_are_refused_with_the_settings_to_run_with(tmp_path, weights, changes, message):
    result = embed(bag(tmp_path, **changes), weights)
    assert result.failed
    assert message in result.line
    assert result.line.endswith(
        "run with encoder=chief_ctranspath and 'tile={size_px: 224, mpp: 1.142857143}'"
    )
    assert not (tmp_path / "vectors.h5").exists()


def test_a_side_that_was_rounded_is_taken(tmp_path, weights):
    assert not embed(bag(tmp_path, target_mpp=1.14), weights).failed


class Positional(torch.nn.Module):
    """Slide encoder that returns what it is given of the tiles' places."""

    def forward(self, features, corners, side_px):
        return torch.cat([corners.double().mean(0), torch.tensor([side_px, len(features)])])


def entry(folder, name="chief", **changes):
    """An entry of the user's own, in a working directory."""
    target = folder / "configs" / "slide_encoders" / f"{name}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load(config_path("slide_encoders/chief.yaml").read_text())
    target.write_text(yaml.safe_dump({**settings, **changes}))


def test_positions_are_corners_in_level_0_pixels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry(tmp_path, positions=True, dim=4, weights="random")
    monkeypatch.setattr(chief, "SlideEncoder", Positional)
    path = bag(tmp_path, coords=np.array([[10 * n, n] for n in range(5)]))
    assert embed(path, None).line == "a: 5 tiles to 4 numbers"
    vector = read_vectors(tmp_path / "vectors.h5").vectors[0]
    np.testing.assert_allclose(vector, [20, 2, 1024, 5])
    entry(tmp_path, positions=True, dim=5, weights="random")
    assert "has the shape [4], not [5]; correct dim in" in embed(path, None).line


def test_heads_weights_and_names_must_go_together(tmp_path, weights):
    path = bag(tmp_path)
    job = [EmbedJob(path, tmp_path / "x.h5")]
    with one_line(DatasetError, match="chief: is computed without heads"):
        list(run("chief", [tmp_path], job, threads=1, weights=weights))
    with one_line(DatasetError, match="mean: has no file of weights; .* one of chief, .*madeleine"):
        list(run("mean", [], job, threads=1, weights=weights))
    with one_line(ConfigError, match="ask for its weights at https.*by `mil embed --weights PATH`"):
        embed(path, None)
    with one_line(ConfigError, match=r"no weights file .*gone\.pth; ask for"):
        embed(path, tmp_path / "gone.pth")
    with one_line(ConfigError, match=r"chief\.safetensors: does not fit the model"):
        embed(path, weights, "madeleine")


SPARSE = torch.eye(1).to_sparse()


# A warning of torch, that it takes long.
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.ones(2)}, "not a file of tensors alone.*: a tensor is called 1"),
        ({"weight": SPARSE, "bias": torch.ones(1)}, "alone.*: weight is no array of numbers"),
        ({"weight": torch.ones(1, 1, device="meta")}, "alone.*: weight is no array"),
        ({"a": torch.ones(2), "module.a": torch.zeros(2)}, "module.a differs from the tensor"),
    ],
)
def test_a_file_of_strange_tensors_is_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(build, "new_model", lambda name: torch.nn.Linear(1, 1))
    torch.save(content, tmp_path / "model.pt")
    with one_line(ConfigError, match=rf"model\.pt: .*{message}"):
        build_slide_encoder("madeleine", weights=tmp_path / "model.pt")


def test_an_entry_without_architecture_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "build"):
        entry(tmp_path, name, weights="random")
        with one_line(ConfigError, match="no architecture of that name"):
            build_slide_encoder(name)
    entry(tmp_path, weights="hf-hub:A/B")
    with one_line(ConfigError, match="a file on the hub is hf-hub:OWNER/NAME@REVISION/FILE"):
        load_slide_encoder("chief")


def test_random_weights_are_always_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry(tmp_path, weights="random")
    state = torch.get_rng_state()
    first = build_slide_encoder("chief").weights_sha256
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert build_slide_encoder("chief").weights_sha256 == first


def test_weights_come_from_the_hub_once(tmp_path, monkeypatch):
    hub = play(monkeypatch, tmp_path / "hub")
    name, made = "madeleine", load_slide_encoder("madeleine")
    assert slide_weights_status(name, made, ask_hub=False).status == "not here"
    with one_line(ConfigError, match="run `mil encoders fetch madeleine` on a machine with"):
        build_slide_encoder(name)
    torch.save(new_model(name).state_dict(), tmp_path / "model.pt")
    hub.answers["/MahmoodLab/madeleine/resolve/"] = (tmp_path / "model.pt").read_bytes()
    assert fetch_slide_weights(name, made).name == "model.pt"
    assert slide_weights_status(name, made).status == "cached"
    asked = len(hub.asked)
    assert build_slide_encoder(name).revision == "MahmoodLab/madeleine@f00d"
    assert len(hub.asked) == asked
    # A user's own file is no commit, wherever it lies.
    own = tmp_path / "snapshots/mine/own.pt"
    own.parent.mkdir(parents=True)
    (tmp_path / "model.pt").rename(own)
    assert build_slide_encoder(name, weights=own).revision == "own.pt"


def test_weights_that_no_run_can_get_are_refused_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with one_line(ConfigError, match="chief: its weights are given on request.*set `weights"):
        check_slide_encoders(["chief"], [])
    entry(tmp_path, weights="random")
    check_slide_encoders(["chief", "madeleine", "mean"], [])
    entry(tmp_path, weights="own.pt")
    with one_line(ConfigError, match=r"chief: no weights file own\.pt; put it there, or set"):
        check_slide_encoders(["chief"], [])
    (tmp_path / "own.pt").touch()
    check_slide_encoders(["chief"], [])
    entry(tmp_path, weights="package:someone/own.pt")
    with one_line(ConfigError, match="come with no package; give a path"):
        check_slide_encoders(["chief"], [])


def test_encoders_of_slides_are_listed_shown_and_not_fetched_by_hand():
    listed = CliRunner().invoke(app, ["encoders", "list"]).output
    (line,) = [line.split() for line in listed.splitlines() if line.startswith("chief ")]
    assert line[:4] == ["chief", "768", "chief_ctranspath", "256"]
    assert line[4:] == ["CHIEF,", "non-commercial", "yes", "on", "request"]
    shown = CliRunner().invoke(app, ["encoders", "show", "chief"]).output
    assert "on disk       on request: ask for its weights at https://" in shown
    fetched = CliRunner().invoke(app, ["encoders", "fetch", "chief"])
    assert isinstance(fetched.exception, ConfigError)


@pytest.mark.parametrize("command", ["show", "fetch"])
def test_other_names_of_slide_encoders_are_answered_with_those_here(command):
    for name, answer in {
        "TITAN": "TITAN: is called titan here",
        "longnet": "longnet: is called gigapath_slide here",
        "madelein": "published slide encoders are: chief, gigapath_slide, madeleine",
    }.items():
        result = CliRunner().invoke(app, ["encoders", command, name])
        assert isinstance(result.exception, ConfigError)
        assert answer in str(result.exception)


def test_tiles_that_are_cropped_are_shown():
    lines = CliRunner().invoke(app, ["encoders", "show", "gigapath_slide"]).output.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("cropped")] == [
        "256: 224"
    ]
    assert "cropped" not in CliRunner().invoke(app, ["encoders", "show", "chief"]).output
