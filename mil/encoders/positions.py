"""Position embeddings of a checkpoint, resampled to the grid of a model as its authors do.

A model whose tiles have one size needs that once, when its weights are loaded.
"""

from collections.abc import Mapping
from math import isqrt

from jaxtyping import Float
from torch import Tensor, cat
from torch.nn import functional

# DINO enlarges by a factor that is larger by a tenth of a patch, against rounding; the
# factor, not only the size, decides where it samples.
DINO_MARGIN = 0.1


def fit_positions(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], keys: str
) -> dict[str, Tensor]:
    """Tensors with positions for the grid of a model, where their authors resample them.

    Args:
        tensors: Tensors of a checkpoint under timm's names.
        expected: Tensors of the model.
        keys: Naming of the checkpoint. `conch`: as DINO resamples; `transformers`: as
            `Dinov2Model` does. Of others nothing is resampled.

    Returns:
        `tensors`, with another `pos_embed` if its grid was not that of the model.
    """
    positions, target = tensors.get("pos_embed"), expected.get("pos_embed")
    if positions is None or target is None or positions.shape[1] == target.shape[1]:
        return tensors
    # Models with registers resample in another way.
    if keys not in ("conch", "transformers") or "reg_token" in tensors:
        return tensors
    margin = DINO_MARGIN if keys == "conch" else None
    side = isqrt(target.shape[1] - 1)
    return {**tensors, "pos_embed": resample_positions(positions, side, margin)}


def resample_positions(
    positions: Float[Tensor, "1 old dim"], side: int, margin: float | None = None
) -> Float[Tensor, "1 new dim"]:
    """Bicubic resampling of a square grid of positions; that of the class token stays.

    Args:
        positions: Position of the class token, then those of the patches.
        side: Patches along a side of the new grid.
        margin: Added to the number of patches in the factor by which is sampled; None:
            sampled by the number of patches alone.
    """
    old_side = isqrt(positions.shape[1] - 1)
    grid = positions[:, 1:].unflatten(1, (old_side, old_side)).permute(0, 3, 1, 2).float()
    if margin is None:
        resampled = functional.interpolate(grid, size=(side, side), mode="bicubic")
    else:
        factor = (side + margin) / old_side
        resampled = functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    patches = resampled.flatten(2).transpose(1, 2).to(positions.dtype)
    return cat([positions[:, :1], patches], dim=1)
