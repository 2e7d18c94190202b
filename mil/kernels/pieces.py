"""Bags cut into pieces of rows, so that one long bag occupies as many programs as many short ones."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Pieces(NamedTuple):
    """Which rows a program works on: piece p is part of one bag, and a bag's pieces follow one another.

    Piece p of bag b is the `rows` rows from ``offsets[b] + (p - firsts[b]) * rows``, the bag's last one fewer.
    """

    bag_of: Int[Tensor, " pieces"]  # the number of bags for the pieces that are left over at the end
    firsts: Int[Tensor, " bags_plus_1"]  # first piece of each bag
    rows: int


def cut(offsets: Int[Tensor, " bags_plus_1"], tiles: int, rows: int) -> Pieces:
    """Cut bags into pieces of at most `rows` rows, without waiting for the device.

    How many pieces there are is known on the device alone; the host reckons with the most there can be.

    Args:
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; it may be empty, and then has no piece.
        tiles: rows of all bags.
        rows: of a piece.
    """
    counts = (offsets.diff() + rows - 1) // rows
    firsts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    most = -(-tiles // rows) + len(counts)
    numbers = torch.arange(most, device=offsets.device)
    return Pieces(torch.searchsorted(firsts[1:], numbers, right=True), firsts, rows)
