"""Rows by head as Triton's kernels of attention take them: of one type and an aligned width."""

import torch
from torch import Tensor
from torch.nn import functional

# Widest head in Triton; wider ones do not fit into registers.
MAX_WIDTH = 128
# Widths are padded to a multiple of this: rows then begin at aligned addresses.
WIDTH_MULTIPLE = 16


def widest(*rows: Tensor) -> int:
    """Largest width of rows [rows, heads, width]."""
    return max(tensor.shape[2] for tensor in rows)


def alike(*rows: Tensor) -> list[Tensor]:
    """Rows of one type and width, padded with zeros; differentiable."""
    width = widest(*rows)
    width += -width % WIDTH_MULTIPLE
    dtype = rows[0].dtype
    for tensor in rows[1:]:
        # Under autocast a normalised tile is wider than its projection.
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [_padded(tensor.to(dtype), width) for tensor in rows]


def _padded(rows: Tensor, width: int) -> Tensor:
    # Without a condition, nothing added is a copy.
    missing = width - rows.shape[2]
    return functional.pad(rows, (0, missing)) if missing else rows
