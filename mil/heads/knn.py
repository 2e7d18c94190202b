"""Nearest neighbours of a slide's mean vector among the training slides.

Vectors are standardised by the training slides and compared by their cosine; neighbours
vote with weights exp(cosine / temperature), as in Wu et al. 2018,
https://arxiv.org/abs/1805.01978, section 3.4. The head holds the vectors of the training
slides.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mil.bags import Bags, HeadOutput, per_bag
from mil.config import Section
from mil.heads._at_once import Division, FitProblem, least_left_out, standardisation
from mil.heads._pooling import Pooling
from mil.heads._stream import PoolsTiles
from mil.kernels.dispatch import at_least_float32

# Numbers of neighbours that are tried.
NEIGHBOURS = (1, 3, 5, 10, 20)
DEFAULT_NEIGHBOURS = 5
# Published.
TEMPERATURE = 0.07


class Config(Section):
    """Options of a recipe with `name: knn`."""

    neighbours: int | None = Field(
        None,
        gt=0,
        description="Number of neighbours that vote; if unset, the one of 1, 3, 5, 10 and 20 that "
        "has the least loss on patients left out of the training slides.",
    )
    temperature: float = Field(
        TEMPERATURE, gt=0, description="Temperature of the neighbours' weights."
    )


class Head(PoolsTiles):
    """Average the tiles, let the most similar training slides vote: `mil.heads.FitsAtOnce`."""

    # The vote of the training slides compares classes.
    for_classes = True
    # Such a head is not exported: the training slides would go with it.
    keeps_slides = True
    mean: Tensor
    deviation: Tensor
    # [slides, dim], of length 1, and [slides, classes], one-hot.
    memory: Tensor
    votes: Tensor
    prior: Tensor
    temperature: Tensor
    count: Tensor

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        self.neighbours = config.neighbours
        self.register_buffer("temperature", torch.tensor(config.temperature))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.register_buffer("memory", torch.zeros(classes, dim))
        self.register_buffer("votes", torch.eye(classes))
        self.register_buffer("prior", torch.full((classes,), 1 / classes))
        self.register_buffer("count", torch.tensor(DEFAULT_NEIGHBOURS))

    def pool(self, bags: Bags) -> Pooling:
        """Means [bags, 1, dim], and scores of zero: every tile counts the same."""
        tiles = at_least_float32(bags.features)
        rows = torch.stack([tile_rows.mean(0) for tile_rows in per_bag(tiles, bags.offsets)])
        return Pooling(rows[:, None], tiles.new_zeros(tiles.shape[0], 1))

    def each_tile(self, features: Tensor) -> Pooling:
        """See `PoolsTiles`."""
        tiles = at_least_float32(features)
        return Pooling(tiles[:, None], tiles.new_zeros(len(tiles), 1))

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Logarithm of the classes' shares in the vote."""
        rows = functional.normalize((pooled[:, 0] - self.mean) / self.deviation, dim=1)
        similarity = rows @ self.memory.to(rows.dtype).T
        shares = vote(similarity, self.votes, self.prior, int(self.count), self.temperature)
        return HeadOutput(shares.log(), scores)

    def rows(self, bags: Bags) -> Float[Tensor, "bags dim"]:
        """See `mil.heads.FitsAtOnce`."""
        return self.pool(bags).rows[:, 0]

    @torch.no_grad()
    def fit_rows(self, rows: Float[Tensor, "bags dim"], problem: FitProblem) -> str:
        """See `mil.heads.FitsAtOnce`."""
        votes = functional.one_hot(problem.targets.long(), self.votes.shape[1]).double()
        count, line = self._count(rows, votes, problem)
        mean, deviation = standardisation(rows)
        device = self.mean.device
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.memory = functional.normalize((rows - mean) / deviation, dim=1).float().to(device)
        self.votes = votes.float().to(device)
        self.prior.copy_(votes.mean(0))
        self.count.fill_(count)
        return line

    def _count(self, rows: Tensor, votes: Tensor, problem: FitProblem) -> tuple[int, str]:
        """Number of neighbours, and a line about where it comes from."""
        if self.neighbours is not None:
            return self.neighbours, f"{self.neighbours} neighbours, as the recipe says"
        if not problem.divisions:
            line = f"{DEFAULT_NEIGHBOURS} neighbours, for too few patients to leave some out"
            return DEFAULT_NEIGHBOURS, line
        losses = [self._left_out_losses(rows, votes, problem, each) for each in problem.divisions]
        best, _ = least_left_out(np.array(losses))
        count = len(problem.divisions)
        return NEIGHBOURS[best], f"{NEIGHBOURS[best]} neighbours, of least loss over {count} folds"

    def _left_out_losses(
        self, rows: Tensor, votes: Tensor, problem: FitProblem, division: Division
    ) -> Sequence[float]:
        """Sum of the losses of bags left out, for each of `NEIGHBOURS`."""
        fit, left_out = list(division.fit), list(division.left_out)
        mean, deviation = standardisation(rows[fit])
        directions = functional.normalize((rows - mean) / deviation, dim=1)
        similarity = directions[left_out] @ directions[fit].T
        prior = votes[fit].mean(0)
        temperature = self.temperature.cpu()
        logits = [
            vote(similarity, votes[fit], prior, count, temperature).log() for count in NEIGHBOURS
        ]
        return [float(problem.loss(each, problem.targets[left_out]).sum()) for each in logits]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # As many training slides as the file holds; another width is refused as ever.
        slides = state_dict.get(f"{prefix}memory")
        if slides is not None and slides.dim() == 2:
            self.memory = self.memory.new_zeros(len(slides), self.memory.shape[1])
            self.votes = self.votes.new_zeros(len(slides), self.votes.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)


def vote(
    similarity: Float[Tensor, "bags slides"],
    votes: Float[Tensor, "slides classes"],
    prior: Float[Tensor, " classes"],
    count: int,
    temperature: Tensor,
) -> Float[Tensor, "bags classes"]:
    """Share of each class among the nearest slides, and one more vote of the prior.

    The prior keeps shares above 0 for any class of the training slides, and the loss of
    bags left out finite.

    Args:
        similarity: Cosine of each bag and each training slide.
        votes: One-hot class of each training slide.
        prior: Share of each class in the training slides.
        count: Number of neighbours.
        temperature: Temperature of their weights.
    """
    nearest = similarity.topk(min(count, similarity.shape[1]), dim=1)
    weights = (nearest.values / temperature).softmax(1).to(votes.dtype)
    shares = torch.einsum("bn,bnc->bc", weights, votes[nearest.indices])
    number = nearest.values.shape[1]
    smallest = torch.finfo(votes.dtype).tiny
    return ((number * shares + prior) / (number + 1)).clamp_min(smallest)
