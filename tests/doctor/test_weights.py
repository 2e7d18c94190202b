"""Whether weights can be had, without a network: the hub is played."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from mil.config import EncoderConfig, load_encoder
from mil.doctor import timm_hub, weights
from mil.doctor.weights import find_weights

NO_FILE = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)


def entry(timm="resnet18.a1_in1k", how="timm"):
    return EncoderConfig(timm=timm, dim=8, weights=how, licence="none")


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """An empty cache and a hub that does not answer; files of `cache` and answers of `hub` are by repository."""
    played = SimpleNamespace(cache={}, answers={}, asked=[])

    def cached(repository, file, revision=None):
        return played.cache.get((repository, file, revision))

    def asked(url, timeout):
        assert 0 < timeout <= 3
        played.asked.append(url)
        answer = next((answer for part, answer in played.answers.items() if part in url), ConnectionError("no route"))
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(size=answer)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return played


def refused(kind, code=403):
    answer = SimpleNamespace(status_code=code, headers={}, request=None)
    return kind("no", response=answer)


def test_the_default_encoder_is_installed():
    found = find_weights(load_encoder("efficientnet_lite0"))
    assert (found.word, found.ok) == ("installed", True)
    assert found.detail == "efficientnet-lite0-57934424.pth, 19 MB"


def test_weights_on_the_disk(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"0" * 3_000_000)
    assert find_weights(entry(how=str(file))) == ("file", True, "w.safetensors, 3 MB")
    assert find_weights(entry(how=str(tmp_path / "no"))) == ("missing", False, f"no file {tmp_path / 'no'}")
    assert find_weights(entry(how="random")).ok
    absent = find_weights(entry(how="package:no_such/w.pth"))
    assert (absent.ok, absent.detail) == (False, "they come with the package no_such: pip install no_such")


def test_in_the_cache_nobody_is_asked(hub, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"0" * 2_000_000)
    hub.cache["timm/resnet18.a1_in1k", "model.safetensors", None] = str(file)
    assert find_weights(entry()) == ("cached", True, "timm/resnet18.a1_in1k, 2 MB on this disk")
    hub.cache["A/B", "pytorch_model.bin", "v2"] = str(file)
    assert find_weights(entry("hf-hub:A/B@v2")).word == "cached"
    assert find_weights(entry("hf-hub:A/B")).word == "not reachable"
    assert len(hub.asked) == 1


def test_the_hub_is_asked_for_a_file(hub):
    hub.answers["/A/B/resolve/main/model.safetensors"] = refused(NO_FILE, 404)
    hub.answers["/A/B/resolve/main/pytorch_model.bin"] = 5_000_000
    assert find_weights(entry("hf-hub:A/B")) == ("reachable", True, "A/B, to be downloaded: 5 MB")


@pytest.mark.parametrize(
    ("answer", "word", "said"),
    [
        (refused(errors.GatedRepoError), "gated", "ask for access on https://huggingface.co/A/B, then log in"),
        (refused(errors.RepositoryNotFoundError, 404), "unknown", "the hub has no A/B, or not for you"),
        (refused(errors.HfHubHTTPError, 503), "not reachable", "the hub answers 503"),
        (TimeoutError(), "not reachable", "A/B (TimeoutError): fetch it where there is a network, or give"),
        (refused(NO_FILE, 404), "missing", "A/B has none of model.safetensors, pytorch_model.bin"),
    ],
)
def test_a_hub_that_does_not_give(hub, answer, word, said):
    hub.answers["/A/B/"] = answer
    found = find_weights(entry("hf-hub:A/B"))
    assert (found.word, found.ok) == (word, False)
    assert said in found.detail


def test_offline_nobody_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = find_weights(entry("hf-hub:A/B"))
    assert (found.word, found.ok, hub.asked) == ("offline", False, [])
    assert "HF_HUB_OFFLINE is set" in found.detail


def test_own_weights_of_a_model_of_the_hub_need_its_config(hub, tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"0")
    assert find_weights(entry("hf-hub:A/B", str(file))).word == "not reachable"
    hub.answers["/A/B/resolve/main/config.json"] = 100
    assert find_weights(entry("hf-hub:A/B", str(file))).word == "file"


@pytest.mark.parametrize(
    ("name", "where"),
    [("resnet18", "timm/resnet18.a1_in1k"), ("fastvit_mci0.apple_mclip", "apple/mobileclip_s0_timm")],
)
def test_timm_tells_where_its_models_are(hub, name, where):
    hub.answers[f"/{where}/"] = 1_000_000
    assert find_weights(entry(name)) == ("reachable", True, f"{where}, to be downloaded: 1 MB")


@pytest.mark.parametrize("name", ["resnet81", "resnet18.no_such_tag"])
def test_a_name_that_timm_does_not_know(name):
    found = find_weights(entry(name))
    assert (found.word, found.ok) == ("unknown", False)


def test_weights_at_an_address(monkeypatch, tmp_path):
    monkeypatch.setattr(timm_hub, "where", lambda _name: ("", "", "https://example.org/w.pth"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "urlopen", lambda *_args, **_kwargs: (_ for _ in ()).throw(TimeoutError()))
    assert find_weights(entry("gcvit_base")).word == "not reachable"
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints/w.pth").write_bytes(b"0")
    assert find_weights(entry("gcvit_base")).word == "cached"
