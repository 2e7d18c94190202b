"""Linear probe of the pooled row of ABMIL: attention is learned, the classifier is fitted.

ABMIL is trained first, on the same bags. The probe keeps its reducer and its attention
as they are, and fits a classifier with a penalty of its own to the rows of the training
bags.
"""

from collections.abc import Iterable

from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags
from mil.heads import abmil
from mil.heads._gated import default_hidden, reduce_and_pool, reduce_and_score
from mil.heads._pooling import Pooling
from mil.heads._row_probe import RowProbe, RowProbeConfig


class Config(RowProbeConfig):
    """Options of a recipe with `name: abmil_probe`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branch.")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout after the reducer and before the score while ABMIL is trained, 0 to "
        "1.",
    )


class Head(RowProbe):
    """Pool with the attention of a trained ABMIL, map the standardised row linearly."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__(config, default_hidden(config.hidden, dim), classes)
        self.first_config = abmil.Config(
            hidden=config.hidden, attention=config.attention, dropout=config.dropout
        )
        self.dim = dim
        first = self.first_stage()
        self.reduce = first.reduce
        self.attention = first.attention

    def first_stage(self) -> abmil.Head:
        """ABMIL of the same widths."""
        return abmil.Head(self.first_config, self.dim, self.classify.out_features)

    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Take reducer and attention over."""
        assert isinstance(first, abmil.Head)
        self.reduce.load_state_dict(first.reduce.state_dict())
        self.attention.load_state_dict(first.attention.state_dict())

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, 1, hidden] and scores [tiles, 1]."""
        return reduce_and_pool(self.reduce, self.attention, bags)

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        return reduce_and_score(self.reduce, self.attention, features)
