"""Bags cut into pieces: every row once, in order, none of another bag."""

import pytest
import torch

from mil.kernels.pieces import cut


@pytest.mark.parametrize("rows", [1, 4, 5, 100])
@pytest.mark.parametrize(
    "sizes",
    [[1], [4, 5, 3], [1, 0, 9, 4], [0, 0, 7, 0], [*range(40)], [300, 0, 3]],
    ids=lambda sizes: str(sizes[:4]),
)
def test_pieces_cover_every_row_once_and_in_order(sizes, rows, device, poisoned):
    """Bags and pieces under, on and over what a program looks at at a time."""
    offsets = torch.tensor([0, *sizes], device=device).cumsum(0)
    pieces = cut(offsets, sum(sizes), rows)
    seen = []
    for piece, bag in enumerate(pieces.bag_of.tolist()):
        if bag == len(sizes):
            continue
        start = offsets[bag].item() + (piece - pieces.firsts[bag].item()) * rows
        stop = min(start + rows, offsets[bag + 1].item())
        assert start < stop
        seen += range(start, stop)
    assert seen == list(range(sum(sizes)))
    assert pieces.bag_of.tolist() == sorted(pieces.bag_of.tolist())
    assert (pieces.bag_of < len(sizes)).sum() == pieces.firsts[-1]
