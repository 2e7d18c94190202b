"""Names of joined encoders, as a user writes them and as results carry them."""

import re

import pytest

from mil.config import TileConfig, load_config, load_encoders
from mil.config.joined import (
    ENCODERS,
    EncoderAt,
    encoder_terms,
    joined_name,
    name_of_tiled,
    parse_encoders,
    tiled_encoders,
)
from mil.errors import ConfigError
from tests.messages import one_line

ENTRIES = load_encoders()


def canonical(name: str, **tile) -> str:
    return name_of_tiled(tiled_encoders(name, TileConfig(**tile), ENTRIES))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("uni", "uni"),
        ("uni_v1", "uni"),
        ("uni@0.5+uni@1.0", "uni@0.5+uni@1"),
        ("uni@1+uni@0.50", "uni@0.5+uni@1"),
        ("uni+virchow2", "uni@0.5+virchow2@0.5"),
        ("uni_v1+UNI@2", "uni@0.5+uni@2"),
        # Tiles of CONCH are 448 px wide.
        ("conch+uni", "uni@0.5+conch@448px_0.5714285714mpp"),
        ("uni@0.25+uni@0.5+uni@1", "uni@0.25+uni@0.5+uni@1"),
    ],
)
def test_every_spelling_has_one_name(written, name):
    assert canonical(written) == name
    assert canonical(name) == name
    assert re.fullmatch(ENCODERS, name)
    # It is part of paths and of commands.
    assert not set(name) & set(" /\\*?'\"$`;&|<>(){}[]#!~\n")


def test_tiles_of_the_run_go_before_those_of_the_entries():
    assert canonical("uni+virchow2", mpp=1) == "uni@1+virchow2@1"
    assert canonical("uni+virchow2@2", mpp=1) == "uni@1+virchow2@2"
    assert canonical("uni+conch", size_px=256) == "uni@0.5+conch@0.5714285714"
    assert [one.tiling for one in tiled_encoders("uni@1+conch", TileConfig(), ENTRIES)] == [
        "224px_1mpp",
        "448px_0.5714285714mpp",
    ]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("uni@1", r"uni@1 states a resolution, which only joined encoders do.*set tile.mpp=1"),
        ("uni+uni", "joins an encoder with itself at one resolution"),
        ("uni@0.5+uni@0.5", "joins an encoder with itself"),
        ("uni+uni_v9@1", "no encoder named 'uni_v9'"),
        ("uni@0.5.5+uni@1", "uni@0.5.5 states no resolution; write it as uni@0.5"),
        ("uni@0+uni@1", "uni@0 states no resolution"),
        ("uni@1e9+uni@1", "uni@1e9 states no resolution"),
        ("+".join(f"uni@{n}" for n in range(1, 10)), "joins 9 encoders; join at most 8"),
        (
            "+".join(f"efficientnet_lite0@{n}" for n in (0.25, 0.5, 1, 2, 4)),
            r"the joined encoders, efficientnet_lite0@0.25\+.*, has 109 characters.*join fewer",
        ),
    ],
)
def test_a_name_that_cannot_be_is_one_line(name, fault):
    with one_line(ConfigError, rf"config: encoder: .*{fault}"):
        load_config({"encoder": name})


@pytest.mark.parametrize("name", ["uni+", "+uni", "uni@", "../x+uni", "uni+a/b", "uni uni"])
def test_a_name_that_is_no_name_is_refused(name):
    with one_line(ConfigError, "config: encoder"):
        load_config({"encoder": [name]})


def test_two_spellings_are_one_encoder_of_the_run():
    config = load_config({"encoder": "[uni@0.5+uni@1,uni@1+uni_v1]"})
    assert config.encoder == ["uni@0.5+uni@1"]


def test_finer_maps_of_joined_encoders_are_refused_before_the_run():
    with one_line(ConfigError, r"heatmap.stride: finer maps are of one encoder.*set it to 1"):
        load_config({"encoder": "uni@0.5+uni@1", "heatmap": {"stride": 0.5}})
    assert load_config({"encoder": "uni", "heatmap": {"stride": 0.5}}).heatmap.cells_per_tile == 2


def test_parts_of_a_name():
    name = "uni@0.5+conch@448px_0.571mpp+phikon"
    parts = parse_encoders(name)
    assert parts == [EncoderAt("uni", 0.5), EncoderAt("conch", 0.571, 448), EncoderAt("phikon")]
    assert joined_name(parts) == name


def test_terms_are_those_of_all_encoders():
    terms = encoder_terms("efficientnet_lite0@0.5+uni@1+uni@2", ENTRIES)
    assert terms.licence == "Apache-2.0; CC-BY-NC-ND-4.0"
    assert terms.gated
    assert terms.citation == f"{ENTRIES['efficientnet_lite0'].citation} {ENTRIES['uni'].citation}"
    assert encoder_terms("uni_v1", ENTRIES).licence == ENTRIES["uni"].licence
    assert encoder_terms("uni+nobody", ENTRIES) is None
