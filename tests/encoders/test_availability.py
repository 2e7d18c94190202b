"""Whether weights can be had, without a network: the hub is played."""

import pytest
from huggingface_hub import constants, errors

from mil.config import EncoderConfig, load_encoder
from mil.encoders import availability as find
from mil.encoders import timm_hub
from mil.encoders.availability import find_weights
from tests.encoders.hub import NO_FILE, play, refusal

FETCH = "run `mil encoders fetch x` where there is a network, or give `weights: PATH` in configs/encoders.yaml"


def entry(timm="resnet18.a1_in1k", how="timm"):
    return EncoderConfig(timm=timm, dim=8, weights=how, licence="none")


def found(*of, **how):
    return find_weights("x", entry(*of), **how)


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    return play(monkeypatch, tmp_path / "hub")


def test_the_default_encoder_is_installed():
    default = find_weights("efficientnet_lite0", load_encoder("efficientnet_lite0"))
    assert default == ("installed", True, "efficientnet-lite0-57934424.pth, 19 MB")


def test_weights_on_the_disk(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"0" * 3_000_000)
    assert found("resnet18", str(file)) == ("file", True, "w.safetensors, 3 MB")
    assert found("resnet18", str(tmp_path / "no")) == (
        "missing",
        False,
        f"no file {tmp_path / 'no'}",
    )
    assert found("resnet18", "random").ok
    absent = found("resnet18", "package:no_such/w.pth")
    assert (absent.ok, absent.detail) == (
        False,
        "they come with the package no_such: pip install no_such",
    )


def test_in_the_cache_nobody_is_asked(hub, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"0" * 2_000_000)
    hub.cache["timm/resnet18.a1_in1k", "model.safetensors", None] = str(file)
    assert found() == ("cached", True, "timm/resnet18.a1_in1k, 2 MB on this disk")
    hub.cache["A/B", "pytorch_model.bin", "v2"] = str(file)
    assert found("hf-hub:A/B@v2").word == "cached"
    assert found("resnet18", "hf-hub:A/B@v2").word == "cached"
    assert found("resnet18", "hf-hub:A/B@v2/pytorch_model.bin").word == "cached"
    assert hub.asked == []
    assert found("resnet18", "hf-hub:A/B@v2/other.bin").word == "not reachable"
    assert found("hf-hub:A/B").word == "not reachable"
    assert len(hub.asked) == 2


def test_the_hub_is_asked_for_a_file(hub):
    hub.answers["/A/B/resolve/main/model.safetensors"] = refusal(NO_FILE, 404)
    hub.answers["/A/B/resolve/main/pytorch_model.bin"] = b"0" * 5_000_000
    assert found("hf-hub:A/B") == ("reachable", True, "A/B, to be downloaded: 5 MB")
    assert found("resnet18", "hf-hub:A/B") == ("reachable", True, "A/B, to be downloaded: 5 MB")


@pytest.mark.parametrize(
    ("answer", "word", "said"),
    [
        (
            refusal(errors.GatedRepoError),
            "gated",
            "ask for access on https://huggingface.co/A/B, then log in with `hf auth login`",
        ),
        (
            refusal(errors.RepositoryNotFoundError, 404),
            "unknown",
            "the hub has no A/B, or not for you: check the name, or log in",
        ),
        (refusal(errors.RevisionNotFoundError, 404), "unknown", "A/B has no revision v1"),
        (
            refusal(errors.HfHubHTTPError, 503),
            "not reachable",
            f"A/B: the hub answers 503: {FETCH}",
        ),
        (TimeoutError(), "not reachable", f"A/B (TimeoutError): {FETCH}"),
        (refusal(NO_FILE, 404), "missing", "A/B has none of model.safetensors, pytorch_model.bin"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_hub_that_does_not_give(hub, answer, word, said):
    hub.answers["/A/B/"] = answer
    assert found("hf-hub:A/B@v1") == (word, False, said)
    assert found("resnet18", "hf-hub:A/B@v1") == (word, False, said)


def test_offline_nobody_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    detail = f"A/B is not on this disk and HF_HUB_OFFLINE is set: {FETCH}"
    assert found("resnet18", "hf-hub:A/B") == ("offline", False, detail)
    assert hub.asked == []


def test_without_asking(hub):
    assert found("resnet18", "hf-hub:A/B", ask=False) == ("not here", False, FETCH)
    assert hub.asked == []


def test_own_weights_of_a_model_of_the_hub_need_its_config(hub, tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"0")
    assert found("hf-hub:A/B", str(file)).word == "not reachable"
    hub.answers["/A/B/resolve/main/config.json"] = b"{}"
    assert found("hf-hub:A/B", str(file)).word == "file"


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("resnet18", "timm/resnet18.a1_in1k"),
        ("fastvit_mci0.apple_mclip", "apple/mobileclip_s0_timm"),
    ],
)
def test_timm_tells_where_its_models_are(hub, name, where):
    hub.answers[f"/{where}/"] = b"0" * 1_000_000
    assert found(name) == ("reachable", True, f"{where}, to be downloaded: 1 MB")


@pytest.mark.parametrize("name", ["resnet81", "resnet18.no_such_tag"])
def test_a_name_that_timm_does_not_know(name):
    assert found(name)[:2] == ("unknown", False)


def test_a_model_that_timm_has_no_weights_for():
    assert found("vit_giant_patch14_224") == (
        "missing",
        False,
        "timm has no weights for vit_giant_patch14_224",
    )


def test_weights_at_an_address(monkeypatch, tmp_path):
    monkeypatch.setattr(timm_hub, "where", lambda _name: ("", "", "https://example.org/w.pth"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        find, "urlopen", lambda *_args, **_kwargs: (_ for _ in ()).throw(TimeoutError())
    )
    assert found("gcvit_base").detail == f"https://example.org/w.pth (TimeoutError): {FETCH}"
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints/w.pth").write_bytes(b"0")
    assert found("gcvit_base").word == "cached"
