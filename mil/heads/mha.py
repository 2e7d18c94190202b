"""Attention pooling by one learned query with several attention heads: the default of AEM's code.

Zhang et al. 2024, https://arxiv.org/abs/2406.15303.
"""

from torch import Tensor, nn

from mil.bags import Bags, HeadOutput
from mil.heads._ablation import Ablated, attention_of
from mil.heads._mha import MhaConfig, PooledValues, QueryScores, learned_queries
from mil.heads._pooling import Pooling, pool_by
from mil.heads._precision import Classifier
from mil.heads._reducer import project
from mil.heads._stream import PoolsTiles


class Config(MhaConfig):
    """Options of a recipe with `name: mha`."""


class Head(PoolsTiles):
    """Reduce each tile, score it per attention head, pool, classify the heads' joint row."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = config.width(dim)
        self.query = learned_queries(1, hidden)
        self.reduce = nn.Sequential(project(config, dim, hidden), nn.ReLU())
        self.attention = QueryScores(hidden, config.heads)
        self.values = PooledValues(hidden, config.dropout)
        self.classify = Classifier(hidden, classes)

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, heads, hidden] and scores [tiles, heads]."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        return pool_by(self.attention(self.query[0], hidden), hidden, bags.offsets)

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        hidden = self.reduce(features)
        return Pooling(hidden[:, None], self.attention(self.query[0], hidden))

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`; here each attention head is left out."""
        rows, scores, _ = self.pool(bags)
        if rows.shape[1] < 2:
            return None
        without = self.classify(self.values.without_each(rows))
        return Ablated(
            self.classify(self.values(rows)),
            without.transpose(0, 1),
            attention_of(scores, bags.offsets),
        )

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify the row that the attention heads make together."""
        logits = self.classify(self.values(pooled))
        return HeadOutput(logits, scores, attention_heads=scores.shape[1])
