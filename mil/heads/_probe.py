"""What the probing heads share: an optional reducer, and a classifier of a normalised row."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mil.errors import ConfigError
from mil.heads._ablation import without_each
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.kernels.dispatch import at_least_float32

# That of the published layer.
EPS = 1e-6


class ProbeConfig(ReducerConfig):
    """Options of the heads that probe features as the encoder gives them."""

    hidden: int | None = Field(
        None,
        gt=0,
        description="Width of a reducer before the pool; if unset, there is none, and features are "
        "pooled as they are.",
    )
    norm: bool = Field(
        True,
        description="Layer norm of the pooled row, without parameters, before the classifier.",
    )


def reducer(config: ProbeConfig, hidden: int | None, dim: int) -> nn.Module:
    """Features [tiles, dim] to [tiles, hidden]; no change without a width.

    Raises:
        ConfigError: there are experts, but no width.
    """
    if hidden is not None:
        return nn.Sequential(project(config, dim, hidden), nn.ReLU())
    if config.project == "experts":
        raise ConfigError("project: experts reduce tiles to a width; set hidden")
    return nn.Identity()


class RowClassifier(nn.Module):
    """Layer norm without parameters, then a linear layer.

    The published classifier stands behind a batch norm, which batches of one to four bags
    cannot carry.
    """

    def __init__(self, width: int, classes: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = norm
        self.linear = Classifier(width, classes)

    def forward(self, row: Float[Tensor, "bags width"]) -> Float[Tensor, "bags classes"]:
        """Logits."""
        logits: Tensor = self.linear(self.normalised(row))
        return logits

    def parts(
        self, values: Float[Tensor, "bags branches width"]
    ) -> Float[Tensor, "bags branches classes"]:
        """Part of each branch in the logits, for a row that is the branches' values joined.

        Together with the bias they sum to the logits. With the layer norm too: at the mean
        and deviation of this row it is linear, and takes the mean from every part.
        """
        row = self.normalised(values.flatten(1)).view_as(values)
        weight = self.linear.weight.unflatten(1, values.shape[1:])
        return torch.einsum("bmw,cmw->bmc", row.to(weight.dtype), weight)

    def without_each(
        self, values: Float[Tensor, "bags branches width"]
    ) -> Float[Tensor, "bags branches classes"]:
        """Logits without the values of one branch after the other; the norm is that of the rest."""
        return torch.stack([self(row.flatten(1)) for row in without_each(values)], 1)

    def normalised(self, row: Float[Tensor, "bags width"]) -> Float[Tensor, "bags width"]:
        """The row as the linear layer takes it."""
        row = at_least_float32(row)
        return functional.layer_norm(row, row.shape[-1:], eps=EPS) if self.norm else row
