"""Bags whose tiles lie in several processes, pooled as if they lay in one.

A process pools its own tiles of each bag. Softmax over a bag is softmax over each share of it,
weighted by the softmax of the shares' log-sum-exps, so that a largest value and a sum over
the processes make the rows of the whole bag, whatever its length: M branches of d numbers.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mil.bags import AttentionStats, per_bag
from mil.heads._pooling import Pooling
from mil.kernels.dispatch import at_least_float32

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Merged(NamedTuple):
    """Rows of whole bags, the same in every process, and the log-sum-exps of their scores."""

    rows: Float[Tensor, "... width"]
    lse: Float[Tensor, "..."]


class Shards:
    """Processes that hold the shares of the same bags; all must call the same, in one order.

    The gradient that arrives at what is merged is summed over the processes. Averaged over
    them, the gradients of the parameters are those of one process with the whole bags.
    """

    def __init__(self, group: "ProcessGroup | None" = None) -> None:
        self.group = group

    def summed(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Sum over the processes, differentiable."""
        total: Tensor = _Sum.apply(values, self.group)
        return total

    def merged(self, rows: Float[Tensor, "... width"], lse: Float[Tensor, "..."]) -> Merged:
        """One softmax over the shares of all processes.

        Args:
            rows: Rows of this process, averaged over its share by a softmax.
            lse: Log-sum-exps of the scores; minus infinity for a share without tiles.
        """
        import torch.distributed as dist

        lse = at_least_float32(lse)
        m = lse.detach().clone()
        dist.all_reduce(m, op=dist.ReduceOp.MAX, group=self.group)
        u = (lse - m).exp()[..., None]
        # A mean over no tiles is no number.
        present = rows.to(u.dtype).masked_fill(lse.isneginf()[..., None], 0.0)
        total = self.summed(torch.cat([u * present, u], -1))
        u = total[..., -1:]
        return Merged((total[..., :-1] / u).to(rows.dtype), m + u[..., 0].log())

    def pooled(self, pooling: Pooling, offsets: Int[Tensor, " bags_plus_1"]) -> Pooling:
        """Rows of the whole bags, this process's scores, and statistics of all attention.

        Args:
            pooling: The tiles of this process.
            offsets: Offsets of its shares; a share may be empty.
        """
        scores = at_least_float32(pooling.scores)
        shares = per_bag(scores, offsets)
        lse = torch.stack([share.logsumexp(0) for share in shares])
        rows, lse = self.merged(pooling.rows, lse)
        # The losses would see this process's attention alone.
        log_p = [share - total for share, total in zip(shares, lse, strict=True)]
        entropy = torch.stack([-(log.exp() * log).sum(0) for log in log_p])
        gram = torch.stack([log.exp().mT @ log.exp() for log in log_p])
        sums = self.summed(torch.cat([entropy[:, None], gram], 1))
        return Pooling(rows, pooling.scores, AttentionStats(lse, sums[:, 0], sums[:, 1:]))


class _Sum(Function):
    """Sum over processes, and of the gradients that arrive in each."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: "ProcessGroup | None") -> Tensor:
        ctx.group = group
        return _summed(values, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _summed(grads[0], ctx.group), None


def _summed(values: Tensor, group: "ProcessGroup | None") -> Tensor:
    import torch.distributed as dist

    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
