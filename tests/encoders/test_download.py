"""Weights from the hub, downloaded beforehand or when needed, and the errors without them."""

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants, errors
from safetensors.torch import save
from typer.testing import CliRunner

from mil.cli import app
from mil.config import EncoderConfig
from mil.encoders.build import build_encoder
from mil.encoders.download import fetch
from mil.encoders.weights import weights_digest
from mil.errors import ConfigError
from tests.encoders.hub import NO_FILE, play, refusal
from tests.messages import one_line

PINNED = "hf-hub:A/B@c0ffee/model.safetensors"
FETCH = (
    "run `mil encoders fetch x` on a machine with a network, "
    "or set `weights: PATH` in configs/encoders.yaml"
)


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    return play(monkeypatch, tmp_path / "hub")


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=0).state_dict()


def entry(weights: str = PINNED, **changes: object) -> EncoderConfig:
    return EncoderConfig(
        **{
            "timm": "test_resnet",
            "dim": 96,
            "tile_px": 32,
            "licence": "x",
            "weights": weights,
            **changes,
        }
    )


def build(config: EncoderConfig):
    return build_encoder("x", config, tile_px=32, device=torch.device("cpu"), precision="fp32")


def refused(call, *arguments) -> str:
    with one_line(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


def test_what_was_fetched_is_used_without_a_network(hub, tensors, monkeypatch):
    hub.answers["/A/B/resolve/c0ffee/model.safetensors"] = save(tensors)
    path = fetch("x", entry())
    assert path == hub.folder / "A/B/snapshots/c0ffee/model.safetensors"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("x", entry()) == path
    encoder = build(entry())
    assert encoder.identity["weights_sha256"] == weights_digest(tensors)
    assert encoder.identity["encoder_revision"] == "A/B@c0ffee"
    assert len(hub.asked) == 1


def test_weights_come_when_they_are_needed_and_say_which_they_are(hub, tensors):
    hub.answers["/A/B/resolve/main/model.safetensors"] = save(tensors)
    encoder = build(entry("hf-hub:A/B"))
    assert (
        encoder.identity["encoder_revision"] == "A/B@f00d"
    )  # the entry names none: the commit that was got
    assert encoder.identity["weights_sha256"] == weights_digest(tensors)


def test_the_older_kind_of_file_is_the_second_choice(hub, tensors, tmp_path):
    torch.save(tensors, tmp_path / "w.bin")
    hub.answers["/model.safetensors"] = refusal(NO_FILE, 404)
    hub.answers["/pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    assert build(entry("hf-hub:A/B@c0ffee")).identity["weights_sha256"] == weights_digest(tensors)


def test_offline_and_not_there(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = "encoder x: A/B is not on this disk and HF_HUB_OFFLINE is set"
    assert refused(build, entry()) == f"{message}; {FETCH}"
    assert refused(fetch, "x", entry()) == message


def test_gated(hub):
    hub.answers["/A/B/"] = refusal(errors.GatedRepoError)
    message = (
        "encoder x: ask for access on https://huggingface.co/A/B, then log in with `hf auth login`"
    )
    assert refused(build, entry()) == f"{message}; {FETCH}"
    assert refused(fetch, "x", entry()) == message


def test_gated_for_an_account_that_is_logged_in(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    hub.answers["/A/B/"] = refusal(errors.GatedRepoError)
    assert refused(fetch, "x", entry()) == (
        "encoder x: the account that this machine is logged in with has no access: ask for it on "
        "https://huggingface.co/A/B, and try again once it is granted"
    )


def test_no_network():
    assert refused(build, entry()) == f"encoder x: A/B cannot be reached (ConnectionError); {FETCH}"


def test_what_comes_is_held_against_the_model(hub, tensors):
    short = {name: tensor for name, tensor in tensors.items() if name != "conv1.0.weight"}
    hub.answers["/A/B/"] = save(short)
    assert "does not fit the model: 1 of " in refused(build, entry())
    hub.answers["/A/B/"] = b"<html>sorry</html>"
    hub.cache.clear()
    assert "not a file of tensors alone" in refused(build, entry())


def test_timms_own_weights_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("test_resnet.r160_in1k", "hf-hub:timm/test_resnet.r160_in1k"):
        message = refused(build, entry("timm", timm=name))
        assert message.startswith(
            "encoder x: timm/test_resnet.r160_in1k is not on this disk and HF_HUB_OFFLINE"
        )
        assert message.endswith(FETCH)


def test_models_of_timm_and_of_the_hub_are_fetched_too(hub, tensors):
    hub.answers["/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"] = b"0"
    assert fetch("x", entry("timm")).name == "model.safetensors"
    hub.answers["/A/B/resolve/v1/"] = b"{}"
    assert fetch("x", entry("timm", timm="hf-hub:A/B@v1")).name == "model.safetensors"
    assert [url.rpartition("/")[2] for url in hub.asked[1:]] == ["config.json", "model.safetensors"]


def test_what_is_not_on_the_hub_is_not_fetched(tmp_path):
    assert fetch("x", entry("random")) is None
    assert (
        refused(fetch, "x", entry(str(tmp_path / "w.pth")))
        == f"encoder x: no file {tmp_path / 'w.pth'}"
    )


@pytest.fixture
def encoders_file(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/encoders.yaml").write_text(
        "x: {timm: test_resnet, dim: 96, licence: '[o/]', gated: true, citation: 'us, 2026', "
        f"weights: '{PINNED}'}}\n"
        "y: {timm: test_resnet, dim: 96, mpp: 0.25, licence: ours, weights: random}\n"
    )
    monkeypatch.chdir(tmp_path)


def mil(*arguments: str):
    return CliRunner().invoke(app, ["encoders", *arguments])


@pytest.mark.usefixtures("encoders_file")
def test_the_commands(hub):
    assert [line.split() for line in mil("list").output.splitlines()[1:3]] == [
        ["x", "96", "224", "0.5", "[o/]", "yes", "not", "here"],
        ["y", "96", "224", "0.25", "ours", "random"],
    ]
    shown = mil("show", "x").output
    assert "citation   us, 2026\n" in shown
    assert "tiling     224px_0.5mpp, 112 µm wide\n" in shown
    assert f"on disk    not here: {FETCH}\n" in shown
    hub.answers["/A/B/"] = b"0" * 2_000_000
    done = mil("fetch", "x", "y")
    path = hub.folder / "A/B/snapshots/c0ffee/model.safetensors"
    assert done.output == f"x: {path} (2 MB)\ny: nothing to fetch\n"
    assert mil("list").output.splitlines()[1].split()[-1] == "cached"


@pytest.mark.usefixtures("encoders_file")
def test_one_command_logs_in_and_fetches(hub, monkeypatch):
    steps = []
    monkeypatch.setattr(huggingface_hub, "login", lambda **options: steps.append(options))
    hub.answers["/A/B/"] = b"0" * 2_000_000
    assert mil("fetch", "--login", "x").output.startswith("x: ")
    assert steps == [{"skip_if_logged_in": True}]
    assert mil("fetch", "x").exit_code == 0
    assert len(steps) == 1

    def refuse(**_options):
        raise ValueError("Invalid token passed!\nand so on")

    monkeypatch.setattr(huggingface_hub, "login", refuse)
    assert str(mil("fetch", "--login", "x").exception) == (
        "log-in to the hub: Invalid token passed!; `hf auth login` is the same by itself"
    )
    # A typing error shows before anybody is asked for a token.
    assert "there are: x, y" in str(mil("fetch", "--login", "xx").exception)


@pytest.mark.usefixtures("encoders_file")
def test_a_fetch_that_fails(hub, monkeypatch, capsys):
    hub.answers["/A/B/"] = refusal(errors.GatedRepoError)
    monkeypatch.setattr("sys.argv", ["mil", "encoders", "fetch", "x"])
    from mil.cli import main

    with pytest.raises(SystemExit) as stopped:
        main()
    assert str(stopped.value.code).startswith(
        "mil: encoder x: ask for access on https://huggingface.co/A/B"
    )
    assert "there are: x, y" in str(mil("fetch", "xx").exception)
