"""Evidence of tiles in the score file, and patch flipping by it: as the heads give it."""

import numpy as np
import pytest
import torch

from mil.bags import join
from mil.io.bags import read_bag
from mil.io.scores import FLIP_SHARES, FLIPPED_KINDS, read_scores, tiles_left
from mil.trained import load_trained
from mil.trained.forward import tensors_of
from mil.trained.tile_maps import tile_map
from tests.score.test_stage import DIM, save_head, score
from tests.synthetic import bag_file

TILES = 30


def features(tiles=TILES):
    return np.random.default_rng(1).normal(size=(tiles, DIM)) * 3


@pytest.fixture
def scored(tmp_path):
    """Function that scores a bag by heads of one recipe; its second tile is unreadable."""

    def scores_by(name, tiles=TILES, seeds=(1,)):
        valid = np.arange(tiles) != 1
        bag_file(tmp_path / "a.h5", "a", features(tiles), valid=valid)
        heads = [save_head(tmp_path, name, seed) for seed in seeds]
        (result,) = score(heads, (tmp_path / "a.h5", tmp_path / "scores.h5"))
        assert not result.failed, result.line
        scores = read_scores(tmp_path / "scores.h5", evidence=True).scores
        pairs = [load_trained(folder) for folder in heads]
        return scores, pairs, tensors_of(read_bag(tmp_path / "a.h5")).features

    return scores_by


@torch.inference_mode()
def logits_of(head, tiles):
    return head(join([tiles])).logits[0].double().numpy()


@pytest.mark.parametrize("name", ["acmil", "max"])
def test_the_file_holds_what_each_head_gives(scored, name):
    scores, pairs, tiles = scored(name, seeds=(1, 2))
    for found, (head, _) in zip(scores, pairs, strict=True):
        alone = [logits_of(head, tile[None]) for tile in tiles]
        np.testing.assert_allclose(found.evidence.alone, alone, rtol=1e-5, atol=1e-6)
        numbers = np.arange(len(tiles))
        without = [logits_of(head, tiles[numbers != tile]) for tile in numbers]
        np.testing.assert_allclose(
            found.logits - found.evidence.effect, without, rtol=1e-5, atol=1e-6
        )
        assert found.evidence.removed_tiles is None
        assert found.evidence.completeness_error is None


@pytest.mark.parametrize("name", ["abmil", "max"])
def test_flipped_logits_are_those_of_the_tiles_that_are_left(scored, name):
    scores, pairs, tiles = scored(name)
    left = tiles_left(len(tiles))
    for found, (head, trained) in zip(scores, pairs, strict=True):
        for kind, flipped in zip(FLIPPED_KINDS, found.flipped_logits, strict=True):
            values = tile_map(kind, [trained], [found]).values
            order = np.argsort(-values, kind="stable")
            for share, count in enumerate(left):
                if count == 0:
                    assert np.isnan(flipped[:, share]).all()
                    continue
                # Without the most important tiles the last of the order are left.
                kept = (order[len(order) - count :], order[:count])
                expected = [logits_of(head, tiles[numbers]) for numbers in kept]
                np.testing.assert_allclose(flipped[:, share], expected, rtol=1e-5, atol=1e-5)


def test_a_share_of_the_tiles_is_rounded_up():
    assert tiles_left(1000)[[0, 1, -3, -2, -1]].tolist() == [1000, 999, 100, 50, 10]
    assert tiles_left(30)[FLIP_SHARES.index(0.1)] == 27
    assert tiles_left(2).tolist() == [2, *[1] * 22, *[0] * 5]
    assert tiles_left(1).tolist() == [1, *[0] * (len(FLIP_SHARES) - 1)]


def test_a_bag_of_one_tile_has_evidence_but_nothing_to_flip(scored):
    scores, _, _ = scored("abmil", tiles=2)
    for found in scores:
        np.testing.assert_allclose(found.evidence.alone[0], found.logits, rtol=1e-6)
        assert not found.evidence.effect.any()
        np.testing.assert_array_equal(found.flipped_logits[:, :, 0], [[found.logits] * 2] * 3)
        assert np.isnan(found.flipped_logits[:, :, 1:]).all()


def test_heads_that_have_to_be_run_get_fewer_shares_of_large_bags(scored, monkeypatch):
    scores, pairs, tiles = scored("dsmil")
    (found,) = scores
    assert found.evidence.removed_tiles.shape == (29,)
    assert found.evidence.completeness_error <= 0.01
    flipped = found.flipped_logits
    left = tiles_left(len(tiles))
    np.testing.assert_array_equal(np.isnan(flipped[0, 0]).all(1), left == 0)
    order = np.argsort(-found.attention, kind="stable")
    expected = logits_of(pairs[0][0], tiles[np.sort(order[1:])])
    np.testing.assert_allclose(flipped[0, 0, 1], expected, rtol=1e-5)
    monkeypatch.setattr("mil.score.flipping.RUN_TILES", 200)
    fewer = scored("dsmil")[0][0].flipped_logits
    known = ~np.isnan(fewer[0, 0]).all(1)
    assert known[[0, 1]].all()
    assert 3 <= len(np.unique(left[known])) < len(np.unique(left)) - 1
    # Other bags are computed together: float32 adds up in another order.
    np.testing.assert_allclose(fewer[:, :, known], flipped[:, :, known], rtol=1e-5)
