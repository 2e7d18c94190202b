"""Availability of weights, with a fake hub instead of a network."""

import pytest
from huggingface_hub import constants, errors

from mil.config import EncoderConfig, load_encoder
from mil.encoders import availability, timm_hub
from mil.encoders.availability import local_status, package_file, weights_status
from tests.encoders.hub import NO_FILE, play, refusal

FETCH = (
    "run `mil encoders fetch x` on a machine with a network, "
    "or set `weights: PATH` in configs/encoders.yaml"
)


def entry(timm="resnet18.a1_in1k", weights="timm"):
    return EncoderConfig(timm=timm, dim=8, weights=weights, licence="none")


def status_of(*names, **options):
    return weights_status("x", entry(*names), **options)


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    return play(monkeypatch, tmp_path / "hub")


def test_the_default_encoder_is_installed():
    default = weights_status("efficientnet_lite0", load_encoder("efficientnet_lite0"))
    assert default == ("installed", True, "efficientnet-lite0-57934424.pth, 19 MB")


def test_weights_on_the_disk(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"0" * 3_000_000)
    assert status_of("resnet18", str(file)) == ("file", True, "w.safetensors, 3 MB")
    assert status_of("resnet18", str(tmp_path / "no")) == (
        "missing",
        False,
        f"no file {tmp_path / 'no'}",
    )
    assert status_of("resnet18", "random").available
    absent = status_of("resnet18", "package:no_such/w.pth")
    assert (absent.available, absent.message) == (
        False,
        "the weights come with the package no_such: pip install no_such",
    )


def test_cached_weights_ask_no_hub(hub, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"0" * 2_000_000)
    hub.cache["timm/resnet18.a1_in1k", "model.safetensors", None] = str(file)
    assert status_of() == ("cached", True, "timm/resnet18.a1_in1k, 2 MB on this disk")
    hub.cache["A/B", "pytorch_model.bin", "v2"] = str(file)
    assert status_of("hf-hub:A/B@v2").status == "cached"
    assert status_of("resnet18", "hf-hub:A/B@v2").status == "cached"
    assert status_of("resnet18", "hf-hub:A/B@v2/pytorch_model.bin").status == "cached"
    assert hub.asked == []
    assert status_of("resnet18", "hf-hub:A/B@v2/other.bin").status == "not reachable"
    assert status_of("hf-hub:A/B").status == "not reachable"
    assert len(hub.asked) == 2


def test_the_hub_is_asked_for_a_file(hub):
    hub.answers["/A/B/resolve/main/model.safetensors"] = refusal(NO_FILE, 404)
    hub.answers["/A/B/resolve/main/pytorch_model.bin"] = b"0" * 5_000_000
    assert status_of("hf-hub:A/B") == ("reachable", True, "A/B, to be downloaded: 5 MB")
    assert status_of("resnet18", "hf-hub:A/B") == ("reachable", True, "A/B, to be downloaded: 5 MB")


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (
            refusal(errors.GatedRepoError),
            "gated",
            "ask for access on https://huggingface.co/A/B, then log in with `hf auth login`",
        ),
        (
            refusal(errors.RepositoryNotFoundError, 404),
            "unknown",
            "the hub has no repository A/B that you may read: check the name, or log in",
        ),
        (refusal(errors.RevisionNotFoundError, 404), "unknown", "A/B has no revision v1"),
        (
            refusal(errors.HfHubHTTPError, 503),
            "not reachable",
            f"A/B: the hub answers 503: {FETCH}",
        ),
        (TimeoutError(), "not reachable", f"A/B cannot be reached (TimeoutError): {FETCH}"),
        (
            refusal(NO_FILE, 404),
            "missing",
            "A/B has no file model.safetensors or pytorch_model.bin",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_hub_that_refuses(hub, answer, status, message):
    hub.answers["/A/B/"] = answer
    assert status_of("hf-hub:A/B@v1") == (status, False, message)
    assert status_of("resnet18", "hf-hub:A/B@v1") == (status, False, message)


def test_offline_the_hub_is_not_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = f"A/B is not on this disk and HF_HUB_OFFLINE is set: {FETCH}"
    assert status_of("resnet18", "hf-hub:A/B") == ("offline", False, message)
    assert hub.asked == []


def test_without_asking(hub):
    assert status_of("resnet18", "hf-hub:A/B", ask_hub=False) == ("not here", False, FETCH)
    assert hub.asked == []


def test_own_weights_of_a_model_of_the_hub_need_its_config(hub, tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"0")
    assert status_of("hf-hub:A/B", str(file)).status == "not reachable"
    hub.answers["/A/B/resolve/main/config.json"] = b"{}"
    assert status_of("hf-hub:A/B", str(file)).status == "file"


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("resnet18", "timm/resnet18.a1_in1k"),
        ("fastvit_mci0.apple_mclip", "apple/mobileclip_s0_timm"),
    ],
)
def test_timm_names_the_repository_of_its_models(hub, name, repository):
    hub.answers[f"/{repository}/"] = b"0" * 1_000_000
    assert status_of(name) == ("reachable", True, f"{repository}, to be downloaded: 1 MB")


@pytest.mark.parametrize("name", ["resnet81", "resnet18.no_such_tag"])
def test_a_name_that_timm_does_not_know(name):
    assert status_of(name)[:2] == ("unknown", False)


def test_a_model_that_timm_has_no_weights_for():
    assert status_of("vit_giant_patch14_224") == (
        "missing",
        False,
        "timm has no weights for vit_giant_patch14_224",
    )


def test_weights_at_an_address(monkeypatch, tmp_path):
    source = timm_hub.PretrainedSource(url="https://example.org/w.pth")
    monkeypatch.setattr(timm_hub, "pretrained_source", lambda _model: source)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        availability, "urlopen", lambda *_args, **_kwargs: (_ for _ in ()).throw(TimeoutError())
    )
    assert (
        status_of("gcvit_base").message
        == f"https://example.org/w.pth cannot be reached (TimeoutError): {FETCH}"
    )
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints/w.pth").write_bytes(b"0")
    assert status_of("gcvit_base").status == "cached"


@pytest.fixture
def hostile_package(tmp_path, monkeypatch):
    """A package, with one inside it, that leave a mark when they are imported."""
    inner = tmp_path / "site" / "hostile_weights" / "inner"
    inner.mkdir(parents=True)
    mark = f"import pathlib; pathlib.Path({str(tmp_path / 'imported')!r}).touch()\n"
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text(mark)
        (folder / "w.pth").write_bytes(b"weights")
    (tmp_path / "site" / "hostile_module.py").write_text(mark)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield inner.parent
    assert not (tmp_path / "imported").exists()


def test_a_package_is_looked_up_without_being_imported(hostile_package):
    assert package_file("package:hostile_weights/w.pth") == hostile_package / "w.pth"
    inner = package_file("package:hostile_weights.inner/w.pth")
    assert inner == hostile_package / "inner" / "w.pth"
    assert local_status("package:hostile_weights/w.pth").status == "installed"
    assert local_status("package:hostile_weights/x.pth").status == "missing"
    for name in ("hostile_module", "hostile_weights.none.more", "hostile_module.x", "none_at_all"):
        assert package_file(f"package:{name}/w.pth") is None


def test_a_package_of_several_folders_is_looked_up_in_each(tmp_path, monkeypatch):
    for site in ("one", "two"):
        (tmp_path / site / "spread_weights").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / site))
    (tmp_path / "one" / "spread_weights" / "w.pth").touch()
    file = tmp_path / "one" / "spread_weights" / "w.pth"
    assert package_file("package:spread_weights/w.pth") == file
