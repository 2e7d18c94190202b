"""A bag pooled part by part: what is kept of the tiles seen so far does not grow with them.

Softmax over a bag is softmax over each part of it, the parts weighted by the softmax of
their log-sum-exps. So a part is its pooled rows and the log-sum-exp of its scores, and
two parts are put together exactly (the running softmax of Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867, eqs. 4 and 5).
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, join
from mil.heads._pooling import Pooling


class Pooled(NamedTuple):
    """Tiles pooled by attention, float64: thousands of parts may be put together."""

    rows: Tensor  # [branches, hidden]
    log_total: Tensor  # [branches], log-sum-exp of the scores

    def merge(self, other: "Pooled") -> "Pooled":
        """Both parts as one; the order makes no difference."""
        log_total = torch.logaddexp(self.log_total, other.log_total)
        shares = [(part.log_total - log_total).exp()[:, None] for part in (self, other)]
        return Pooled(shares[0] * self.rows + shares[1] * other.rows, log_total)


class Highest(NamedTuple):
    """The largest value of each column over the tiles."""

    row: Tensor  # [columns]

    def merge(self, other: "Highest") -> "Highest":
        """Both parts as one."""
        return Highest(torch.maximum(self.row, other.row))


class PoolsTiles(nn.Module, ABC):
    """A head that pools tiles, each seen by itself, and answers from what it pooled: `mil.heads.Streams`.

    A head of this kind has `pool` and `answer`; branches are columns of its scores.
    """

    @abstractmethod
    def pool(self, bags: Bags) -> Pooling:
        """Rows that each bag's tiles were averaged to by the softmax of their scores, and those scores."""

    @abstractmethod
    def answer(
        self, pooled: Float[Tensor, "bags branches hidden"], scores: Float[Tensor, "tiles branches"]
    ) -> HeadOutput:
        """The output that goes with pooled rows."""

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        pooled = self.pool(bags)
        return self.answer(pooled.rows, pooled.scores)._replace(attention_stats=pooled.stats)

    def part(
        self, features: Float[Tensor, "tiles dim"]
    ) -> tuple[Any, Float[Tensor, "tiles branches"]]:
        """See `mil.heads.Streams`."""
        rows, scores, _ = self.pool(join([features]))
        return Pooled(rows[0].double(), scores.double().logsumexp(0)), scores

    def conclude(self, part: Any, scores: Float[Tensor, "tiles branches"]) -> HeadOutput:
        """See `mil.heads.Streams`."""
        return self.answer(part.rows[None].to(scores.dtype), scores)
