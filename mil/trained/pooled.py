"""Row of a head that pools, and its output without what only training needs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput
from mil.heads import PoolsTiles
from mil.trained.assembled import Assembled, average_outputs


def pooled_output(head: nn.Module, bags: Bags) -> HeadOutput:
    """Predictions and attention scores of a head, and nothing that ranks or copies tiles.

    What a head computes for its losses alone, such as the tiles that CLAM ranks for its
    instance classifiers, has a size that depends on the bag: a graph with any number of
    tiles has no room for it.

    Args:
        head: Head that follows `mil.heads.Streams`, in evaluation mode.
        bags: Bags to predict.
    """
    if isinstance(head, Assembled):
        members = head.members_and_bags(bags)
        outputs = [pooled_output(member, own) for member, own in members]
        return average_outputs(outputs, bags.offsets)
    if isinstance(head, PoolsTiles):
        pooling = head.pool(bags)
        return head.predict(pooling.rows, pooling.scores)
    output: HeadOutput = head(bags)
    return output


def pooled_row(head: nn.Module, bags: Bags) -> Float[Tensor, " row"]:
    """Pooled row of one bag: the vector that a head's classifier sees.

    Rows of several branches, and of several members, stand side by side: members lie in
    different spaces, in which a mean would mean nothing.

    Args:
        head: Head of which every member follows `mil.heads.PoolsTiles`, in evaluation
            mode.
        bags: One bag.
    """
    if isinstance(head, Assembled):
        return torch.cat([pooled_row(member, own) for member, own in head.members_and_bags(bags)])
    assert isinstance(head, PoolsTiles)
    return head.pool(bags).rows[0].flatten()
