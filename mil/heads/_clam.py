"""Parts that CLAM's two heads share, Lu et al. 2021, https://arxiv.org/abs/2004.09666."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, Instances, per_bag
from mil.heads._dropout import Dropout
from mil.heads._gated import (
    GatedScores,
    Trunk,
    default_hidden,
    reduce_and_pool,
    reduce_and_score,
    run_trunk,
)
from mil.heads._pooling import Pooling
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.heads._stream import PoolsTiles


class ClamConfig(ReducerConfig):
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
    layers = nn.Sequential(
        project(config, dim, hidden, bias=True), nn.ReLU(), Dropout(config.dropout)
    )
    return layers, hidden


class ClamScores(GatedScores):
    """Gated scores with dropout on each gate; one column per row.

    The gates are sequences of layers, so that parameters have CLAM's own names.
    """

    def __init__(self, config: ClamConfig, hidden: int, rows: int) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Linear(hidden, config.attention))
        self.gate = nn.Sequential(nn.Linear(hidden, config.attention))
        self.score = nn.Linear(config.attention, rows)
        # Each gate drops by itself. Their product keeps what both keep, and what it
        # drops has no gradient in either: dropout of the product is the same.
        self.dropout = Dropout(1 - (1 - config.dropout) ** 2)

    def gates(self) -> tuple[nn.Linear, nn.Linear | None]:
        """Layers V and U."""
        return cast(nn.Linear, self.value[0]), cast(nn.Linear, self.gate[0])


class InstanceJudges(nn.Module):
    """For each class, a binary classifier of the tiles that it attends to most and least."""

    def __init__(self, hidden: int, classes: int, instances: int) -> None:
        super().__init__()
        self.judges = nn.ModuleList(Classifier(hidden, 2) for _ in range(classes))
        self.instances = instances

    def forward(self, trunk: Trunk, offsets: Int[Tensor, " bags_plus_1"]) -> Instances:
        """Logits of the extreme tiles; a single column of scores serves every class."""
        classes = len(self.judges)
        rows, bag, highest = extremes(trunk.pooling.scores, offsets, self.instances)
        hidden = trunk.hidden(rows)  # [extremes, 1 or classes, hidden]
        by_class = hidden.expand(-1, classes, -1).unbind(1)
        logits = [judge(tiles) for judge, tiles in zip(self.judges, by_class, strict=True)]
        return Instances(
            logits=torch.stack(logits, 1).flatten(0, 1),
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

    reduce: nn.Sequential
    attention: ClamScores
    judge: InstanceJudges

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, branches, hidden] and scores [tiles, branches]."""
        return reduce_and_pool(self.reduce, self.attention, bags)

    def needs_whole_bags(self) -> bool:
        """See `PoolsTiles`."""
        return self.training

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        return reduce_and_score(self.reduce, self.attention, features)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag, and judge its extreme tiles."""
        trunk = run_trunk(self.reduce, self.attention, bags)
        rows, scores, stats = trunk.pooling
        instances = self.judge(trunk, bags.offsets)
        out = self.predict(rows, scores)
        return out._replace(instances=instances, attention_stats=stats)
