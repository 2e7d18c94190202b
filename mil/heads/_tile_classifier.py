"""Classifier of single tiles, for the heads that pool logits instead of features."""

from pydantic import Field
from torch import nn

from mil.heads._dropout import Dropout
from mil.heads._gated import default_hidden
from mil.heads._reducer import ReducerConfig, project


class TileClassifierConfig(ReducerConfig):
    """Options of the heads that classify each tile."""

    hidden: int | None = Field(
        None,
        gt=0,
        description="Width of the hidden layer; if unset, half of the feature dimension.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout after the hidden layer, 0 to 1.")


def tile_classifier(config: TileClassifierConfig, dim: int, classes: int) -> nn.Sequential:
    """Features [tiles, dim] to logits [tiles, classes], through one hidden layer."""
    hidden = default_hidden(config.hidden, dim)
    return nn.Sequential(
        project(config, dim, hidden, bias=True),
        nn.ReLU(),
        Dropout(config.dropout),
        nn.Linear(hidden, classes),
    )
