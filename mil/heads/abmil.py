"""Attention pooling (ABMIL), gated or plain, Ilse et al. 2018, https://arxiv.org/abs/1802.04712.

Equations 7 to 9. Tiles are reduced by one linear layer without bias, as in the code of
ACMIL and AEM; `reducer_bias` adds one, as in CLAM's code and FEATHER's weights.
"""

from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput
from mil.heads._dropout import Dropout
from mil.heads._gated import GatedAttention, default_hidden, reduce_and_pool, reduce_and_score
from mil.heads._pooling import Pooling
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.heads._stream import PoolsTiles


class Config(ReducerConfig):
    """Options of a recipe with `name: abmil`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branch.")
    gated: bool = Field(
        True, description="Gated attention, tanh times sigmoid (eq. 9); false: tanh alone (eq. 8)."
    )
    reducer_bias: bool = Field(False, description="Bias of the reducer.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after the reducer and before the score, 0 to 1."
    )


class Head(PoolsTiles):
    """Reduce each tile, score it, pool the bag with the scores, classify the pooled row."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        # Indices 0 to 2 are read by `reduce_and_pool`, which fuses these layers.
        self.reduce = nn.Sequential(
            project(config, dim, hidden, bias=config.reducer_bias),
            nn.ReLU(),
            Dropout(config.dropout),
        )
        self.attention = GatedAttention(
            hidden, config.attention, branches=1, dropout=config.dropout, gated=config.gated
        )
        self.classify = Classifier(hidden, classes)

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, 1, hidden] and scores [tiles, 1]."""
        return reduce_and_pool(self.reduce, self.attention, bags)

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        return reduce_and_score(self.reduce, self.attention, features)

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each bag's row."""
        return HeadOutput(self.classify(pooled[:, 0]), scores)
