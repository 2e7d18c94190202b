"""Names of encoders: aliases of other tools, and what must never be taken for another model."""

import pytest

from mil.config import (
    EncoderConfig,
    by_alias,
    checked,
    encoder_name,
    load_config,
    load_encoder,
    load_encoders,
)
from mil.errors import ConfigError
from tests.messages import one_line

ENCODERS = load_encoders()


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("uni", "uni"),
        # TRIDENT, CLAM, HEST
        ("uni_v1", "uni"),
        ("uni_v2", "uni2_h"),
        ("hoptimus0", "h_optimus_0"),
        ("hoptimus1", "h_optimus_1"),
        ("hibou_l", "hibou_l"),
        ("phikon_v2", "phikon_v2"),
        ("conch_v1", "conch"),
        ("conch_v15", "conch_v1_5"),
        ("ctranspath", "ctranspath"),
        ("h0-mini", "h0_mini"),
        # STAMP, also with the hash of its code
        ("mahmood-uni", "uni"),
        ("mahmood-uni-7c998680", "uni"),
        ("mahmood-uni2", "uni2_h"),
        ("h-optimus-0", "h_optimus_0"),
        ("virchow_full", "virchow"),
        ("mahmood-conch", "conch"),
        ("conch1_5", "conch_v1_5"),
        # the hub
        ("Astaxanthin/KEEP", "keep"),
        ("MahmoodLab/conchv1_5", "conch_v1_5"),
        ("majiabo/GPFM", "gpfm"),
        ("MahmoodLab/UNI", "uni"),
        ("hf-hub:MahmoodLab/UNI2-h", "uni2_h"),
        ("paige-ai/Virchow2", "virchow2"),
        ("prov-gigapath/prov-gigapath", "gigapath"),
        ("hf_hub:owkin/phikon-v2", "phikon_v2"),
        # as people write them
        ("UNI2-h", "uni2_h"),
        ("H-optimus-1", "h_optimus_1"),
        ("Virchow2", "virchow2"),
    ],
)
def test_names_of_other_tools(name, entry):
    assert by_alias(name, ENCODERS) == entry
    assert encoder_name(name) == entry
    assert load_encoder(name) == ENCODERS[entry]


@pytest.mark.parametrize(
    "name",
    ["uni_v3", "lunit-vits8", "lunit_vitb16", "resnet50_trunc", "resnet34", "conch_v2",
     "openmidnight", "hibou_g", "h0-mega", "virchow3", "kaiko-vitb8",
     "phikon_v3", "midnight12k", "uni_v"],
)  # fmt: skip
def test_another_model_is_never_suggested(name):
    assert by_alias(name, ENCODERS) is None
    with one_line(ConfigError, match="needs an entry of its own") as caught:
        load_config({"encoder": [name]})
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "entry"),
    [("efficientnet_lit0", "efficientnet_lite0"), ("phikn", "phikon"), ("gigapaht", "gigapath")],
)
def test_a_slip_is_corrected(name, entry):
    with one_line(ConfigError, match=rf"no encoder named '{name}'; did you mean '{entry}'\?"):
        load_encoder(name)


def test_a_run_takes_each_encoder_once_under_its_own_name():
    config = load_config({"encoder": ["uni_v1", "h-optimus-0", "mahmood-uni"]})
    assert config.encoder == ["uni", "h_optimus_0"]
    # The name of precomputed bags is theirs.
    assert load_config({"encoder": "ctranspath", "bags": "x"}).encoder == ["ctranspath"]


def entry(**changes):
    return EncoderConfig(**{"timm": "x", "dim": 1, "licence": "x", **changes})


def test_a_name_that_two_entries_claim_stands_for_neither():
    here, there = entry(aliases=["uni_v1"]), entry(aliases=["UNI-v1"])
    assert by_alias("uni_v1", {"a": here}) == "a"
    assert by_alias("uni_v1", {"a": here, "b": there}) is None
    assert by_alias("uni_v1", {"a": here, "uni_v1": there}) == "uni_v1"
    weights = "hf-hub:A/B@1/pytorch_model.bin"
    same = {"cls": entry(weights=weights), "mean": entry(weights=weights, pooling="mean")}
    assert by_alias("A/B", same) is None


def test_a_repository_is_not_the_model_of_a_file_beside_its_own():
    # TITAN's repository holds CONCH v1.5 beside TITAN.
    assert by_alias("MahmoodLab/TITAN", ENCODERS) is None
    assert by_alias("A/B", {"a": entry(weights="hf-hub:A/B@1/other.bin")}) is None
    for file in ("", "/model.safetensors", "/pytorch_model.bin"):
        assert by_alias("A/B", {"a": entry(weights=f"hf-hub:A/B@1{file}")}) == "a"


def test_aliases_recompute_no_bag():
    assert entry(aliases=["a"]).settings() == entry().settings()


@pytest.mark.parametrize(
    "args",
    [
        {"checkpoint_path": "/etc/passwd"},
        {"pretrained_cfg": {"file": "/etc/passwd"}},
        {"pretrained_cfg_overlay": {"url": "http://127.0.0.1/w.pth"}},
        {"cache_dir": "/tmp"},
        {"features_only": True},
        {"pretrained": True},
        {"no_such": 1},
    ],
)
def test_an_argument_that_is_not_of_the_models_shape_is_refused(args):
    with one_line(ConfigError, match=rf"args: '{next(iter(args))}' is not an argument of a model"):
        checked(EncoderConfig, {"timm": "x", "dim": 1, "licence": "x", "args": args}, "e.yaml")


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], [{"a": 1}], 1e9, [10**9], float("nan")])
def test_a_value_that_is_not_plain_is_refused(value):
    with one_line(ConfigError, match="args: depth must be a number, a word, or a list of them"):
        checked(
            EncoderConfig, {"timm": "x", "dim": 1, "licence": "x", "args": {"depth": value}}, "e"
        )
