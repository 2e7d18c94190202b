"""Parts that CLAM's two heads share, Lu et al. 2021, https://arxiv.org/abs/2004.09666."""

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, Instances, per_bag
from mil.config import Section
from mil.heads._gated import default_hidden
from mil.heads._pooling import Pooling, pool_by
from mil.heads._precision import Classifier
from mil.heads._stream import PoolsTiles
from mil.kernels.dispatch import at_least_float32


class ClamConfig(Section):
    """Options of both heads."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branch.")
    dropout: float = Field(
        0.25, ge=0, lt=1, description="Dropout after the reducer and on both gates, 0 to 1."
    )
    instances: int = Field(
        8,
        gt=0,
        description="Number of tiles that the instance classifier sees among the most attended, "
        "and as many among the least.",
    )


def reducer(config: ClamConfig, dim: int) -> tuple[nn.Sequential, int]:
    """Layers from features to hidden rows, and the width of those."""
    hidden = default_hidden(config.hidden, dim)
    layers = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(config.dropout))
    return layers, hidden


class ClamScores(nn.Module):
    """Gated scores with dropout on each gate, not on their product; one column per row."""

    def __init__(self, config: ClamConfig, hidden: int, rows: int) -> None:
        super().__init__()
        self.value = nn.Sequential(
            nn.Linear(hidden, config.attention), nn.Tanh(), nn.Dropout(config.dropout)
        )
        self.gate = nn.Sequential(
            nn.Linear(hidden, config.attention), nn.Sigmoid(), nn.Dropout(config.dropout)
        )
        self.score = nn.Linear(config.attention, rows)

    def forward(self, hidden: Float[Tensor, "tiles hidden"]) -> Float[Tensor, "tiles rows"]:
        """Scores before the softmax."""
        return at_least_float32(self.score(self.value(hidden) * self.gate(hidden)))


class InstanceJudges(nn.Module):
    """For each class, a binary classifier of the tiles that it attends to most and least."""

    def __init__(self, hidden: int, classes: int, instances: int) -> None:
        super().__init__()
        self.judges = nn.ModuleList(Classifier(hidden, 2) for _ in range(classes))
        self.instances = instances

    def forward(
        self,
        hidden: Float[Tensor, "tiles hidden"],
        scores: Float[Tensor, "tiles rows"],
        offsets: Int[Tensor, " bags_plus_1"],
    ) -> Instances:
        """Logits of the extreme tiles; a single column of scores serves every class."""
        classes = len(self.judges)
        rows, bag, highest = extremes(scores.expand(-1, classes), offsets, self.instances)
        by_class = [judge(hidden[rows[:, c]]) for c, judge in enumerate(self.judges)]
        return Instances(
            logits=torch.stack(by_class, 1).flatten(0, 1),
            bag=bag.repeat_interleave(classes),
            of_class=torch.arange(classes, device=rows.device).repeat(len(rows)),
            highest=highest.repeat_interleave(classes),
        )


def extremes(
    scores: Float[Tensor, "tiles classes"], offsets: Int[Tensor, " bags_plus_1"], count: int
) -> tuple[Int[Tensor, "extremes classes"], Int[Tensor, " extremes"], Bool[Tensor, " extremes"]]:
    """Tiles of the highest and of the lowest scores in each bag, per class.

    As many of each: `count`, or half of a smaller bag. So no tile is on both sides, and
    a bag of one tile has none.

    Returns:
        Rows of the tiles, the number of their bag, and whether they are among the
        highest.
    """
    rows = []
    bag = []
    highest = []
    # Detached: a ranking has no gradient. Stable: equal scores rank the same each time.
    firsts = offsets.tolist()[:-1]
    for number, bag_scores in enumerate(per_bag(scores.detach(), offsets)):
        tiles = len(bag_scores)
        k = min(count, tiles // 2)
        order = bag_scores.argsort(dim=0, descending=True, stable=True) + firsts[number]
        rows.append(torch.cat([order[:k], order[tiles - k :]]))
        bag.append(torch.full((2 * k,), number, device=scores.device))
        highest.append(torch.arange(2 * k, device=scores.device) < k)
    return torch.cat(rows), torch.cat(bag), torch.cat(highest)


class ClamHead(PoolsTiles):
    """Reduce, score, pool, predict, and judge the most and least attended tiles.

    Subclasses define `predict`.
    """

    reduce: nn.Module
    attention: ClamScores
    judge: InstanceJudges

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, branches, hidden] and scores [tiles, branches]."""
        return self._pool(self.reduce(bags.features), bags)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag, and judge its extreme tiles."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        rows, scores, stats = self._pool(hidden, bags)
        instances = self.judge(hidden, scores, bags.offsets)
        out = self.predict(rows, scores)
        return out._replace(instances=instances, attention_stats=stats)

    def _pool(self, hidden: Tensor, bags: Bags) -> Pooling:
        return pool_by(self.attention(hidden), hidden, bags.offsets)
