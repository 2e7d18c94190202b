"""Bags to vectors: statistics of the tiles, and rows of trained heads."""

import numpy as np
import pytest
import torch

from mil.config.slide_encoders import check_slide_encoder
from mil.config.slide_encoders_of_run import check_slide_encoders
from mil.embed.rows import CHUNK_TILES, statistics_row
from mil.embed.stage import EmbedJob, jobs_of_part, run
from mil.errors import ConfigError, DatasetError
from mil.heads import build_head
from mil.io.bags import read_bag
from mil.io.bags.fingerprint import bag_digest
from mil.io.tables.parts import WHOLE
from mil.io.vectors import read_vectors
from mil.trained import load_trained
from mil.trained.assembled import assemble
from mil.trained.forward import tensors_of
from mil.trained.pooled import pooled_row
from tests.messages import one_line
from tests.score.test_stage import DIM, save_head
from tests.synthetic import bag_file


@pytest.fixture
def bag(tmp_path):
    features = np.random.default_rng(1).normal(size=(6, DIM)) + 3
    bag_file(tmp_path / "bags" / "a.h5", "a", features, valid=np.arange(6) != 2)
    return tmp_path / "bags" / "a.h5"


def embed(slide_encoder, bag, heads=(), out="out.h5", **others):
    path = bag.parents[1] / out
    (result,) = run(slide_encoder, heads, [EmbedJob(bag, path)], threads=1, **others)
    return result, path


def test_mean_and_deviation_are_those_of_the_valid_tiles(bag):
    features = read_bag(bag).features[[0, 1, 3, 4, 5]].astype(np.float64)
    for name, expected in {
        "mean": features.mean(0),
        "mean_std": np.concatenate([features.mean(0), features.std(0)]),
    }.items():
        result, path = embed(name, bag)
        assert result.line == f"a: 5 tiles to {len(expected)} numbers"
        stored = read_vectors(path)
        np.testing.assert_allclose(stored.vectors, [expected], rtol=1e-6)
        assert stored.header.bag_digest == bag_digest(bag)
        assert (stored.header.slide_encoder, stored.header.tiles) == (name, 5)
        assert stored.header.heads == ()


def test_a_deviation_beside_a_large_mean_keeps_its_digits():
    tiles = np.random.default_rng(2).normal(1e4, 1e-2, (CHUNK_TILES + 5, 2))
    row = statistics_row(tiles, "mean_std")
    np.testing.assert_allclose(row[2:], tiles.std(0), rtol=1e-5)


def test_rows_are_those_that_the_heads_classify_and_stay_while_nothing_changes(bag):
    heads = [save_head(bag.parents[1], seed=seed) for seed in (2, 1)]
    result, path = embed("abmil", bag, heads, keep=True)
    assert result.line == "a: 5 tiles to 8 numbers by 2 heads"
    stored = read_vectors(path)
    assert [head.seed for head in stored.header.heads] == [1, 2]
    tensors = tensors_of(read_bag(bag))
    for folder, row in zip(reversed(heads), stored.vectors, strict=True):
        head, _ = load_trained(folder)
        with torch.inference_mode():
            logits = head.classify(torch.from_numpy(row))
            torch.testing.assert_close(logits, head(tensors).logits[0])
    assert embed("abmil", bag, heads, keep=True)[0].line == ""
    assert embed("abmil", bag, heads[:1], keep=True)[0].line


def test_rows_of_members_stand_side_by_side():
    bags = tensors_of_random()
    members = [build_head("abmil", {"hidden": 8}, dim=DIM, classes=2).eval() for _ in range(2)]
    with torch.inference_mode():
        row = pooled_row(assemble(members), bags)
        torch.testing.assert_close(row, torch.cat([pooled_row(each, bags) for each in members]))


def tensors_of_random():
    from mil.bags import join

    return join([torch.randn(5, DIM)])


def test_states_of_slides_are_kept(bag):
    bag_file(bag, "a", np.zeros((0, DIM)), state="no_tissue", reason="blank")
    result, path = embed("mean", bag)
    assert result.line == "a: no_tissue, nothing to embed"
    assert read_vectors(path).header.state == "no_tissue"


def test_a_bag_that_cannot_be_embedded_stops_no_other(bag):
    other = bag.with_name("b.h5")
    bag_file(other, "b", np.full((2, DIM), np.nan))
    jobs = jobs_of_part("", bag.parent, bag.parents[1] / "vectors", WHOLE)
    results = list(run("mean", [], jobs, threads=1))
    assert [result.failed for result in results] == [False, True]
    assert "values that are not numbers" in results[1].line
    assert not (bag.parents[1] / "vectors" / "b.h5").exists()


def test_heads_and_slide_encoder_must_go_together(bag):
    abmil = save_head(bag.parents[1])
    with one_line(DatasetError, match="computed without heads"):
        embed("mean", bag, [abmil])
    with one_line(DatasetError, match="needs its trained heads"):
        embed("abmil", bag)
    with one_line(DatasetError, match="the head is of recipe abmil"):
        embed("acmil", bag, [abmil])
    with one_line(DatasetError, match="dsmil pools no tiles to a row"):
        embed("dsmil", bag, [save_head(bag.parents[1], "dsmil")])
    with one_line(DatasetError, match="holds the bags"):
        jobs_of_part("", bag.parent, bag.parent, WHOLE)


def test_slide_encoders_of_a_run_are_statistics_or_its_recipes():
    check_slide_encoders(["mean", "mean_std", "abmil"], ["abmil"])
    with one_line(
        ConfigError, match="acmil is neither one of mean, mean_std, chief.* nor a recipe"
    ):
        check_slide_encoders(["acmil"], ["abmil"])
    with one_line(ConfigError, match=r"Chief: is called chief here"):
        check_slide_encoder("Chief")
