"""Small bags, in which every tile attends to all, beside larger ones that save work."""

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

from mil.heads._mixers.base import Places, Rows
from mil.kernels.bag_attn import bag_attn


def mix_by_size(
    rows: Rows, places: Places, limit: int, mix_larger: Callable[[Rows, Places], Tensor]
) -> Tensor:
    """Mixed rows [tiles, query heads, value width]: full attention in bags up to a limit.

    Args:
        rows: Projected rows of the tiles.
        places: The bags.
        limit: Largest number of tiles of a bag in which every tile attends to all.
        mix_larger: Mixed rows of larger bags that follow one another, without coordinates.
    """
    mixed = []
    start = 0
    for is_small, group in groupby(places.sizes(), lambda size: size <= limit):
        sizes = torch.tensor([0, *group], device=places.offsets.device)
        offsets = sizes.cumsum(0)
        stop = start + int(offsets[-1])
        own = Rows(*(row[start:stop] for row in rows[:3]))
        if is_small:
            of_group, _ = bag_attn(own.queries, own.keys, own.values, offsets, offsets)
        else:
            of_group = mix_larger(own, Places(offsets, None))
        mixed.append(of_group)
        start = stop
    return torch.cat(mixed)
