"""Stains: estimated once a slide, the map of colours, and bags that say so."""

import sys

import h5py
import numpy as np
import pytest
import torch

from mil.bench.learn_encode import open_source
from mil.config import FeaturesConfig
from mil.errors import ConfigError, FormatError
from mil.features.part import FeatureJob, FeatureSettings
from mil.features.stage import Target
from mil.features.stain import LIGHT, check_stain_norm, fit_stain, normalise, sampled
from mil.interop.header import embed_header, read_embedded_header
from mil.interop.verify import run as verify_bags
from mil.io.bags import BagHeader, common_identity, read_bag
from mil.io.bags.join import join_bags
from mil.io.bags.joined import joined_parts
from mil.io.bags.stain import REFERENCE_COLOURS, REFERENCE_MAXIMA, SlideStain, stain_of
from mil.io.slides import SlideReader, as_array
from mil.plan.flags import feature_flags
from mil.report.setup import _statement
from mil.trained import Trained
from mil.trained.compatibility import check_compatible
from tests.features.test_stage import ENTRY, embed, encoder, slide
from tests.messages import one_line
from tests.synthetic import bag_file

__all__ = ["slide"]


@pytest.fixture
def torchstain():
    """The package that estimates stains; tests of all else run without it."""
    return pytest.importorskip("torchstain.numpy.normalizers")


REFERENCE = np.array(REFERENCE_COLOURS)
OTHER = np.array([[0.65, 0.70, 0.29], [0.27, 0.90, 0.34]])
OTHER /= np.linalg.norm(OTHER, axis=1, keepdims=True)


def amounts(side: int = 64, seed: int = 0) -> np.ndarray:
    """Much of one stain or the other in each pixel, [2, pixels]."""
    rng = np.random.default_rng(seed)
    both = rng.gamma(2.0, 0.3, (2, side * side))
    both[rng.integers(2, size=side * side), np.arange(side * side)] *= 0.05
    return both


def image_of(colours: np.ndarray, concentrations: np.ndarray) -> np.ndarray:
    intensity = LIGHT * np.exp(-colours.T @ concentrations) - 1
    side = int(np.sqrt(concentrations.shape[1]))
    return np.clip(intensity.round(), 0, 255).astype(np.uint8).T.reshape(side, side, 3)


def test_a_tile_is_that_of_the_library(torchstain):
    image = image_of(OTHER, amounts())
    stain = fit_stain(image.reshape(-1, 3))
    own = normalise(image, stain.to_reference())
    published = torchstain.NumpyMacenkoNormalizer().normalize(image, stains=False)[0]
    # The published code computes in float64 and cuts fractions off.
    assert np.abs(own.astype(int) - published).max() <= 1
    assert np.abs(own.astype(int) - image).mean() > 5


def test_the_reference_is_that_of_the_library(torchstain):
    reference = torchstain.NumpyMacenkoNormalizer()
    np.testing.assert_array_equal(reference.HERef.T, REFERENCE_COLOURS)
    np.testing.assert_array_equal(reference.maxCRef, REFERENCE_MAXIMA)


def test_colours_of_a_slide_are_found(torchstain):
    concentrations = amounts(128)
    stain = fit_stain(image_of(OTHER, concentrations).reshape(-1, 3))
    cosines = (np.array(stain.colours) * OTHER).sum(axis=1)
    assert np.degrees(np.arccos(cosines)).max() < 3
    np.testing.assert_allclose(stain.maxima, np.percentile(concentrations, 99, axis=1), rtol=0.05)


def test_slides_of_two_stains_become_alike(torchstain):
    concentrations = amounts()
    images = [image_of(colours, concentrations) for colours in (OTHER, REFERENCE)]
    alike = [
        normalise(image, fit_stain(image.reshape(-1, 3)).to_reference()).astype(int)
        for image in images
    ]
    before = np.abs(images[0].astype(int) - images[1]).mean()
    assert before > 8
    assert np.abs(alike[0] - alike[1]).mean() < before / 6


def test_hematoxylin_comes_first_where_both_absorb_as_much_red(torchstain):
    # Colours of lymph nodes whose red the published rule cannot order.
    colours = np.array([[0.46, 0.68, 0.57], [0.48, 0.86, 0.17]])
    image = image_of(colours, amounts(128)).reshape(-1, 3)
    published = torchstain.NumpyMacenkoNormalizer()
    published.fit(image[:, None])
    first = fit_stain(image).colours[0]
    assert first[2] > 0.4
    np.testing.assert_allclose(published.HERef[:, 1], first, atol=1e-6)


GREY = np.random.default_rng(0).integers(30, 200, (5000, 1), dtype=np.uint8).repeat(3, axis=1)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((5000, 3), 240, np.uint8), "0 pixels are stained in its sample of tiles"),
        (np.zeros((0, 3), np.uint8), "0 pixels are stained in its sample of tiles"),
        (GREY, "its colours are those of one stain, to 0.0 degrees"),
        (GREY // 8, "its tiles are dark, as in fluorescence"),
    ],
)
def test_a_slide_without_two_stains_stays_as_it_is(pixels, reason, torchstain):
    stain = fit_stain(pixels)
    assert stain == SlideStain(unchanged=reason)
    assert stain.to_reference() is None


def test_bags_are_of_normalised_tiles_and_say_so(slide, monkeypatch, torchstain):
    monkeypatch.setattr("mil.features.stain.SMALLEST_ANGLE", 0.1)
    embed(slide, dtype="float32")
    plain = read_bag(slide / "bag.h5")
    with h5py.File(slide / "bag.h5") as file:
        assert not {"stain_norm", "stain"} & set(file.attrs)
    assert (plain.stain_norm, stain_of(plain)) == ("", None)
    line = embed(slide, dtype="float32", stain_norm="macenko")
    assert "stain" not in line
    bag = read_bag(slide / "bag.h5")
    stain = stain_of(bag)
    assert bag.identity["stain_norm"] == "macenko"
    with SlideReader(slide / "a.tif") as reader:
        x, y = (float(value) for value in bag.coords[7])
        tile = as_array(reader.read(x, y, 128.0, 64)).copy()
    pixels = torch.from_numpy(normalise(tile, stain.to_reference())[None])
    np.testing.assert_allclose(bag.features[7], encoder()(pixels)[0], rtol=1e-4, atol=1e-4)
    assert np.abs(bag.features - plain.features).max() > 1e-3
    monkeypatch.setattr("mil.features.stain.SMALLEST_ANGLE", 90.0)
    line = embed(slide, dtype="float32", stain_norm="macenko")
    bag = read_bag(slide / "bag.h5")
    np.testing.assert_array_equal(bag.features, plain.features)
    assert bag.reason.startswith("stains not normalised: its colours are those of one stain")
    assert bag.reason in line
    assert stain_of(bag).unchanged in bag.reason
    assert bag.state == "ok"


def test_bags_with_and_without_are_not_mixed(tmp_path):
    bag_file(tmp_path / "a.h5", "a", np.zeros((2, 3)))
    bag_file(tmp_path / "b.h5", "b", np.zeros((2, 3)), encoder={"stain_norm": "macenko"})
    with one_line(FormatError, "b.h5: stain_norm is macenko, but none in a.h5"):
        common_identity([tmp_path / "a.h5", tmp_path / "b.h5"])
    assert any("stain_norm" in fault for fault in verify_bags([tmp_path]).faults)


def test_a_head_refuses_bags_of_other_stains(tmp_path):
    facts = {"recipe_name": "abmil", "encoder": "e", "dim": 3, "tiling": "224px_0.5mpp"}
    head = Trained.model_construct(**facts, weights_sha256="w", stain_norm="macenko")
    encoder = {"encoder": "e", "weights_sha256": "w"}
    bag_file(tmp_path / "a.h5", "a", np.zeros((2, 3)), encoder=encoder)
    with one_line(FormatError, "none, but macenko .* with encoder e, stain_norm macenko"):
        check_compatible(head, read_bag(tmp_path / "a.h5"), tmp_path / "a.h5")
    bag_file(tmp_path / "b.h5", "b", np.zeros((2, 3)), encoder={**encoder, "stain_norm": "macenko"})
    check_compatible(head, read_bag(tmp_path / "b.h5"), tmp_path / "b.h5")


def test_what_is_off_changes_no_digest_and_no_flag(tmp_path):
    def digest(**config) -> str:
        settings = FeatureSettings(FeaturesConfig(**config), 1, "cpu")
        target = Target("tiny", ENTRY, tmp_path / "bag.h5")
        job = FeatureJob("a", tmp_path / "a.tif", tmp_path / "no.h5", (target,), settings)
        return job.outputs()[0].digest

    assert "stain" not in digest().facts
    assert digest() != digest(stain_norm="macenko")
    assert "stain" not in feature_flags(FeaturesConfig())
    assert feature_flags(FeaturesConfig(stain_norm="macenko")).endswith(" --stain-norm macenko")


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchstain.numpy.normalizers", None)
    with one_line(ConfigError, r"pip install 'mil\[stain\]'"):
        check_stain_norm(FeaturesConfig(stain_norm="macenko"))
    with one_line(ConfigError, "torchstain"):
        open_source(tmp_path, encoder="x", max_tiles=9, device="cpu", stain_norm="macenko")
    check_stain_norm(FeaturesConfig())


@pytest.mark.parametrize(
    ("stain", "fault"),
    [
        ("{", "JSON"),
        ("\udc80", "unicode"),
        ('{"colours": [[9, 0, 0], [0, 1, 0]], "maxima": [1, 1]}', "less than or equal to 1"),
        ('{"colours": [[1, 0, 0], [0, 1, 0]], "maxima": [1e-300, 1]}', "greater than or equal"),
        ("", "neither colours nor a reason"),
    ],
)
def test_stains_of_a_stranger_are_checked(stain, fault):
    header = BagHeader(slide="a", encoder="e", stain_norm="macenko", stain=stain)
    with one_line(FormatError, rf"bag of a: its stain cannot be used \(.*{fault}"):
        stain_of(header)


def test_tiles_normalised_by_a_method_that_is_not_known_are_not_taken_as_they_are():
    header = BagHeader(slide="a", encoder="e", stain_norm="vahadane", stain="{}")
    with one_line(FormatError, "no method is called 'vahadane'"):
        stain_of(header)
    # A slide without tiles has no stains.
    empty = BagHeader(slide="a", encoder="e", stain_norm="macenko", state="no_tissue")
    assert stain_of(empty) == SlideStain()


def test_stains_travel_with_a_bag(tmp_path):
    stain = SlideStain(colours=REFERENCE_COLOURS, maxima=REFERENCE_MAXIMA)
    facts = {"stain_norm": "macenko", "stain": stain.model_dump_json(exclude_defaults=True)}
    bag_file(tmp_path / "a.h5", "a", np.zeros((2, 3)), encoder=facts)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        embed_header(file.attrs, read_bag(tmp_path / "a.h5"))
        header = read_embedded_header(file.attrs, "other.h5").header_fields()
    assert (header.stain_norm, header.stain) == (facts["stain_norm"], facts["stain"])
    # No change of colours for the reference slide itself, but for what both stains cannot make.
    image = image_of(REFERENCE, amounts())
    matrix = stain_of(read_bag(tmp_path / "a.h5")).to_reference()
    assert np.abs(normalise(image, matrix).astype(int) - image).max() <= 3


def test_a_sample_is_a_grid_over_tiles():
    tiles = np.arange(2 * 224 * 224 * 3, dtype=np.uint32).astype(np.uint8)
    tiles = tiles.reshape(2, 224, 224, 3)
    assert sampled(tiles).shape == (2 * 56 * 56, 3)
    assert sampled(tiles)[1].tolist() == tiles[0, 0, 4].tolist()
    assert sampled(tiles[:, :20, :20]).shape == (800, 3)


def test_a_report_names_slides_whose_stains_stay():
    unchanged = SlideStain(unchanged="its tiles are dark").model_dump_json(exclude_defaults=True)
    facts = {"encoder": "e", "stain_norm": "macenko"}
    headers = [BagHeader(slide="a", **facts), BagHeader(slide="b", **facts, stain=unchanged)]
    assert "stains normalised by macenko, but not of 1 of 2 slides (b)" in _statement(headers)
    assert "stain" not in _statement([BagHeader(slide="a", encoder="e")])


def test_a_joined_bag_states_the_stains_of_all_its_bags(tmp_path):
    known = SlideStain(colours=REFERENCE_COLOURS, maxima=REFERENCE_MAXIMA)
    stains = [known, SlideStain(unchanged="its tiles are dark")]
    texts = [stain.model_dump_json(exclude_defaults=True) for stain in stains]
    paths = [tmp_path / "fine/a.h5", tmp_path / "coarse/a.h5"]
    for path, text, mpp in zip(paths, texts, (0.5, 1.0), strict=True):
        facts = {"stain_norm": "macenko", "stain": text}
        bag_file(path, "a", np.ones((1, 3)), encoder=facts, target_mpp=mpp)
    bag = join_bags([read_bag(path) for path in paths], paths).bag
    assert [part.stain for part in joined_parts(bag)] == texts
    # Where the coarser tiles alone were not normalised, the slide is named too.
    assert stain_of(bag) == known
    assert "but not of 1 of 1 slides (a)" in _statement([bag])
