"""A bag pooled part by part: memory does not grow with the tiles seen so far.

Softmax over a bag is softmax over each part of it, the parts weighted by the softmax of
their log-sum-exps. So a part is its pooled rows and the log-sum-exp of its scores, and
two parts merge exactly (the online softmax of Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867, eqs. 4 and 5).
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, join
from mil.errors import ConfigError
from mil.heads._pooled_removals import PooledRemovals
from mil.heads._pooling import Pooling
from mil.heads._removals import KEPT_BYTES, Remover
from mil.heads._shards import Shards


class PooledPart(NamedTuple):
    """Tiles pooled by attention, float64: thousands of parts may be merged."""

    rows: Tensor  # [branches, hidden]
    lse: Tensor  # [branches], log-sum-exp of the scores

    def merge(self, other: "PooledPart") -> "PooledPart":
        """Both parts as one, in any order."""
        lse = torch.logaddexp(self.lse, other.lse)
        left = (self.lse - lse).exp()[:, None]
        right = (other.lse - lse).exp()[:, None]
        return PooledPart(left * self.rows + right * other.rows, lse)


class ColumnMaxima(NamedTuple):
    """Largest value of each column over the tiles."""

    row: Tensor  # [columns]

    def merge(self, other: "ColumnMaxima") -> "ColumnMaxima":
        """Both parts as one, in any order."""
        return ColumnMaxima(torch.maximum(self.row, other.row))


class PoolsTiles(nn.Module, ABC):
    """Head that pools tiles independently and predicts from the pooled rows.

    A subclass defines `pool` and `predict`; `forward`, `mil.heads.Streams` and
    `mil.heads.RemovesTiles` follow from them. Branches are columns of its scores.
    """

    @abstractmethod
    def pool(self, bags: Bags) -> Pooling:
        """Average of each bag's tiles by the softmax of their scores, and those scores."""

    @abstractmethod
    def predict(
        self, pooled: Float[Tensor, "bags branches hidden"], scores: Float[Tensor, "tiles branches"]
    ) -> HeadOutput:
        """Output that belongs to pooled rows."""

    def each_tile(self, features: Float[Tensor, "tiles dim"]) -> Pooling:
        """Rows and scores of tiles, each a bag of its own.

        A subclass whose branches share the tiles' rows may give one for all of them:
        rows [tiles, 1, hidden].
        """
        offsets = torch.arange(len(features) + 1, device=features.device)
        return self.pool(Bags(features, offsets))

    def mixing(self) -> Float[Tensor, "mixed branches"] | None:
        """Weights of the branches' rows in the rows that logits come from, float64.

        None: they are those of the branches.
        """
        return None

    def logits_of(self, rows: Float[Tensor, "bags mixed hidden"]) -> Float[Tensor, "bags classes"]:
        """Logits that belong to pooled rows, mixed as `mixing` states."""
        return self.predict(rows, rows.new_zeros(len(rows), rows.shape[1])).logits

    def remover(self, room: int = KEPT_BYTES) -> Remover:
        """See `mil.heads.RemovesTiles`."""
        exact = deepcopy(self).double()
        return lambda bags: PooledRemovals(self, exact, bags, room)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag."""
        pooled = self.pool(bags)
        out = self.predict(pooled.rows, pooled.scores)
        return out._replace(attention_stats=pooled.stats)

    def needs_whole_bags(self) -> bool:
        """Whether, in this mode, more than the pool depends on all tiles of a bag."""
        return False

    def forward_shard(self, bags: Bags, shards: Shards) -> HeadOutput:
        """See `mil.heads.InShards`."""
        if self.needs_whole_bags():
            name = type(self).__module__.rpartition(".")[2]
            raise ConfigError(
                f"head {name}: in training it ranks all tiles of a bag, which must be in one "
                "process; STKIM is off with mask_top: 0"
            )
        pooled = shards.pooled(self.pool(bags), bags.offsets)
        out = self.predict(pooled.rows, pooled.scores)
        return out._replace(attention_stats=pooled.stats)

    def part(
        self, features: Float[Tensor, "tiles dim"]
    ) -> tuple[Any, Float[Tensor, "tiles branches"]]:
        """See `mil.heads.Streams`."""
        rows, scores, _ = self.pool(join([features]))
        lse = scores.double().logsumexp(0)
        return PooledPart(rows[0].double(), lse), scores

    def conclude(self, part: Any, scores: Float[Tensor, "tiles branches"]) -> HeadOutput:
        """See `mil.heads.Streams`."""
        return self.predict(part.rows[None].to(scores.dtype), scores)
