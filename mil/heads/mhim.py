"""MHIM-MIL, Tang et al. 2023, https://arxiv.org/abs/2307.15254.

Tiles that a teacher attends to most are hidden from a student. Both are the same plain
attention. The teacher starts from a trained first stage and follows the student slowly
(a moving average); the student starts from random weights. In training the teacher sees
the whole bag; some of the tiles it attends to most are hidden from the student, whose
row of the bag is to resemble the teacher's (the loss `teacher_consistency`). As
published, the teacher's dropout is on then, and only the student is used for
prediction.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import MASKED, Bags, HeadOutput, per_bag
from mil.heads._dropout import Dropout
from mil.heads._gated import default_hidden
from mil.heads._pooling import Pooling, pool_by
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.heads._stream import PoolsTiles
from mil.kernels.dispatch import at_least_float32


class Config(ReducerConfig):
    """Options of a recipe with `name: mhim`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branch.")
    dropout: float = Field(0.25, ge=0, lt=1, description="Dropout after the reducer, 0 to 1.")
    mask_share: float = Field(
        0.1, ge=0, le=1, description="Fraction of a bag's tiles hidden from the student, 0 to 1."
    )
    mask_random: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Fraction of the teacher's most attended tiles that is hidden, sampled at "
        "random; 1: the most attended tiles themselves, without sampling.",
    )
    momentum: float = Field(
        0.9999,
        ge=0,
        le=1,
        description="Momentum of the teacher's moving average at each step, 0 to 1.",
    )


class Network(PoolsTiles):
    """Plain attention pooling, without biases in the attention: first stage, and teacher."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.reduce = nn.Sequential(
            project(config, dim, hidden, bias=True), nn.ReLU(), Dropout(config.dropout)
        )
        self.attention = nn.Sequential(
            nn.Linear(hidden, config.attention, bias=False),
            nn.ReLU(),
            nn.Linear(config.attention, 1, bias=False),
        )
        self.classify = Classifier(hidden, classes)

    def pool(self, bags: Bags) -> Pooling:
        """Rows [bags, 1, hidden] and scores [tiles, 1]."""
        hidden = self.reduce(bags.features)  # [tiles, hidden]
        scores = at_least_float32(self.attention(hidden))
        return pool_by(scores, hidden, bags.offsets)

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        hidden = self.reduce(features)
        return Pooling(at_least_float32(hidden)[:, None], at_least_float32(self.attention(hidden)))

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Classify each bag's row, which is also its `embedding`."""
        rows = pooled[:, 0]
        return HeadOutput(self.classify(rows), scores, embedding=rows)


class Head(Network):
    """The student and its teacher; `scores` are the student's, after masking in training."""

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__(config, dim, classes)
        self.config = config
        self.dim = dim
        # It follows the student's weights, not a gradient.
        self.teacher = Network(config, dim, classes).requires_grad_(False)

    def needs_whole_bags(self) -> bool:
        """See `PoolsTiles`."""
        return self.training

    def first_stage(self) -> nn.Module:
        """The network alone, without teacher and masking."""
        return Network(self.config, self.dim, self.classify.out_features)

    def follow(self, first: nn.Module, train: Iterable[Bags]) -> None:
        """Make the trained network the teacher."""
        self.teacher.load_state_dict(first.state_dict())

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teacher a little towards the student."""
        for name, weight in self.teacher.named_parameters():
            weight.lerp_(self.get_parameter(name), 1 - self.config.momentum)

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag; in training without the hidden tiles."""
        if not self.training:
            return super().forward(bags)
        # In training mode, as published: the teacher's dropout is on.
        with torch.no_grad():
            teacher = self.teacher(bags)
        hidden = self.reduce(bags.features)
        scores = at_least_float32(self.attention(hidden))
        config = self.config
        hardest = _hardest(teacher.scores, bags.offsets, config.mask_share, config.mask_random)
        masked = scores.index_fill(0, hardest, MASKED)
        rows, masked, stats = pool_by(masked, hidden, bags.offsets)
        student = self.predict(rows, masked)
        return student._replace(teacher_embedding=teacher.embedding, attention_stats=stats)


def _hardest(
    scores: Float[Tensor, "tiles 1"],
    offsets: Int[Tensor, " bags_plus_1"],
    share: float,
    random: float,
) -> Int[Tensor, " hidden"]:
    """Rows of ``floor(tiles * share)`` random ones of each bag's highest tiles.

    They are drawn from the ``1 / random`` times as many tiles of highest score.
    """
    hidden = []
    for first, bag in zip(offsets.tolist(), per_bag(scores[:, 0], offsets), strict=False):
        count = int(len(bag) * share)
        candidates = min(len(bag), round(count / random))
        highest = bag.topk(candidates).indices
        drawn = torch.randperm(len(highest), device=bag.device)[:count]
        hidden.append(first + highest[drawn])
    return torch.cat(hidden)
