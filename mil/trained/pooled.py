"""Output of a head that pools, without what only training needs."""

from torch import nn

from mil.bags import Bags, HeadOutput
from mil.heads._stream import PoolsTiles
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
