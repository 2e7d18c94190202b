"""Positions of a checkpoint on the grid of a model: sampled where their authors sample."""

import pytest
import torch
from torch.nn import functional

from mil.encoders.positions import fit_positions, resample_positions

OLD = 14
NEW = 28


def ramp() -> torch.Tensor:
    """Positions that are the row and the column of a patch; -1 for the class token."""
    rows, columns = torch.meshgrid(torch.arange(OLD), torch.arange(OLD), indexing="ij")
    patches = torch.stack([rows, columns], dim=-1).reshape(1, OLD * OLD, 2).float()
    return torch.cat([torch.full((1, 1, 2), -1.0), patches], dim=1)


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, which torch's bicubic interpolation uses."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def on_the_ramp(place: float) -> float:
    first = int(place) - 1
    return sum(cubic(place - patch) * patch for patch in range(first, first + 4))


@pytest.mark.parametrize(("margin", "factor"), [(None, NEW / OLD), (0.1, (NEW + 0.1) / OLD)])
def test_where_it_samples(margin, factor):
    sampled = resample_positions(ramp(), NEW, margin)
    assert sampled.shape == (1, 1 + NEW * NEW, 2)
    assert sampled[0, 0].tolist() == [-1, -1]
    # Without the border, where patches are repeated.
    inner = range(4, NEW - 4)
    expected = torch.tensor([on_the_ramp((patch + 0.5) / factor - 0.5) for patch in inner])
    grid = sampled[0, 1:].reshape(NEW, NEW, 2)[4:-4, 4:-4]
    torch.testing.assert_close(grid[:, 0, 0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(grid[0, :, 1], expected, rtol=0, atol=1e-4)


def fitted(keys: str, **others: torch.Tensor) -> torch.Tensor:
    expected = {"pos_embed": torch.empty(1, 1 + NEW * NEW, 2)}
    return fit_positions({"pos_embed": ramp(), **others}, expected, keys)["pos_embed"]


def test_transformers_samples_by_size_and_conch_by_factor():
    patches = ramp()[:, 1:].reshape(1, OLD, OLD, 2).permute(0, 3, 1, 2)
    by_size = functional.interpolate(patches, size=(NEW, NEW), mode="bicubic")
    torch.testing.assert_close(fitted("transformers")[:, 1:], by_size.flatten(2).transpose(1, 2))
    assert (fitted("conch") - fitted("transformers")).abs().max() > 0.02


@pytest.mark.parametrize("keys", ["name", "order", "clip", "beit3", "keep"])
def test_of_others_nothing_is_resampled(keys):
    torch.testing.assert_close(fitted(keys), ramp())


def test_of_models_with_registers_nothing_is_resampled():
    assert fitted("transformers", reg_token=torch.zeros(1, 4, 2)).shape == ramp().shape


def test_a_grid_that_fits_stays_as_it_is():
    tensors = {"pos_embed": ramp()}
    expected = {"pos_embed": torch.empty(1, 1 + OLD * OLD, 2)}
    assert fit_positions(tensors, expected, "conch") is tensors
    assert fit_positions({}, expected, "conch") == {}
