"""Whitened principal components: uncorrelated, of variance 1, and the same on any machine."""

import numpy as np
import pytest
import torch

from mil.trained import scaling
from mil.trained.scaling import Whitening, equal_scalings


def tiles_of(count, seed=0):
    """Tiles of five features, of which one is constant and two nearly the same."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(count, 4)) * [100.0, 3.0, 0.2, 0.2] + [1e3, 0.0, 0.0, 0.0]
    base[:, 3] += base[:, 2]
    return torch.from_numpy(np.column_stack([base, np.full(count, 7.0)])).float()


def whitened(tiles, components=3, bags=4):
    return Whitening.fitted(tiles.chunk(bags), bags, tiles.shape[1], components)


def test_components_are_uncorrelated_and_of_variance_one():
    tiles = tiles_of(400)
    components = whitened(tiles)(tiles).double().numpy()
    np.testing.assert_allclose(components.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(components.T, ddof=0), np.eye(3), atol=2e-3)


def test_components_come_by_variance_with_a_fixed_sign():
    tiles = tiles_of(400)
    axes = whitened(tiles).projection.abs().argmax(0)
    assert axes.tolist()[:2] == [0, 1]
    largest = whitened(tiles).projection.gather(0, axes[None])
    assert (largest > 0).all()


def test_a_component_without_variance_is_zero_and_not_infinite():
    tiles = tiles_of(400)
    components = whitened(tiles, components=5)(tiles)
    assert components[:, 4].abs().max() == 0
    assert components.isfinite().all()


def test_bags_of_one_tile_and_fewer_tiles_than_components():
    tiles = tiles_of(3)
    components = whitened(tiles, components=5, bags=3)(tiles)
    assert components.isfinite().all()
    assert (components.abs().sum(0) > 0).sum() == 2  # three points span a plane


def test_components_beyond_the_rank_of_the_tiles_are_zero():
    generator = torch.Generator().manual_seed(0)
    tiles = torch.randn(20, 300, generator=generator) + 3
    whitening = whitened(tiles, components=32)
    # Twenty points span 19 dimensions; the rest is rounding, and large on other tiles.
    assert (whitening.projection.abs().sum(0) > 0).sum() == 19
    assert whitening(torch.randn(20, 300, generator=generator) + 3).abs().max() < 50


def test_many_tiles_are_sampled_evenly_from_every_bag(monkeypatch):
    monkeypatch.setattr(scaling, "MAX_TILES", 40)
    tiles = tiles_of(400)
    sampled = whitened(tiles)
    expected = torch.cat([bag[::10] for bag in tiles.chunk(4)])
    torch.testing.assert_close(sampled.mean, expected.mean(0))
    assert not equal_scalings(sampled, whitened(tiles[:200]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_components_keep_the_precision_of_float32_under_autocast(dtype):
    tiles = tiles_of(50).to(dtype)
    whitening = whitened(tiles_of(400))
    with torch.autocast("cpu", torch.bfloat16):
        components = whitening(tiles)
    assert components.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(components, whitening(tiles))
