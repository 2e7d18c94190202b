"""Bags split into segments: every row once, in order, none of another bag."""

import pytest
import torch

from mil.kernels.segments import split_bags


@pytest.mark.parametrize("rows", [1, 4, 5, 100])
@pytest.mark.parametrize(
    "sizes",
    [[1], [4, 5, 3], [1, 0, 9, 4], [0, 0, 7, 0], [*range(40)], [300, 0, 3]],
    ids=lambda sizes: str(sizes[:4]),
)
def test_segments_cover_every_row_once_and_in_order(sizes, rows, device, poisoned):
    """Bags and segments under, on and over what a program looks at at a time."""
    offsets = torch.tensor([0, *sizes], device=device).cumsum(0)
    segments = split_bags(offsets, sum(sizes), rows)
    seen = []
    for segment, bag in enumerate(segments.bag_of.tolist()):
        if bag == len(sizes):
            continue
        start = offsets[bag].item() + (segment - segments.firsts[bag].item()) * rows
        stop = min(start + rows, offsets[bag + 1].item())
        assert start < stop
        seen += range(start, stop)
    assert seen == list(range(sum(sizes)))
    assert segments.bag_of.tolist() == sorted(segments.bag_of.tolist())
    assert (segments.bag_of < len(sizes)).sum() == segments.firsts[-1]
