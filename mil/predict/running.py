"""Answers while tiles are still coming: what is kept of a slide does not grow with it but for its scores."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import join
from mil.heads import Part, Streams
from mil.trained import Applied, Trained, applied


def name_of(column: str) -> str:
    """A column as people read it: `p(tumour)`."""
    return f"p({column[2:]})" if column.startswith("p_") else column


class _Running:
    """One head on one slide."""

    def __init__(self, head: nn.Module, trained: Trained, num_tiles: int) -> None:
        self.head = cast(Streams, head)
        self.trained = trained
        self._num_tiles = num_tiles
        self.part: Part | None = None
        self.scores = torch.empty(0, 1)  # [tiles, branches], of which the first `seen` are known
        self.seen = 0

    def add(self, features: Tensor) -> None:
        part, scores = self.head.part(features)
        if self.part is None:
            self.scores = scores.new_empty(self._num_tiles, scores.shape[1])
        self.part = part if self.part is None else self.part.merge(part)
        self.scores[self.seen : self.seen + len(scores)] = scores
        self.seen += len(scores)

    def answer(self) -> Float[np.ndarray, " columns"]:
        """What the head would say if there were no more tiles."""
        assert self.part is not None
        out = self.head.conclude(self.part, self.scores[:1])
        return self.trained.answers(out.logits)[0].double().numpy()

    def conclude(self) -> Applied:
        assert self.part is not None
        scores = self.scores[: self.seen]
        return applied(
            self.trained,
            self.head.conclude(self.part, scores),
            join([scores.new_empty(self.seen, 0)]),
        )


class Running:
    """Heads of one recipe on one slide, told of its readable tiles as they come.

    Args:
        models: heads that stream; see `mil.heads.Streams`.
        num_tiles: of the slide, at most.
    """

    def __init__(self, models: Sequence[tuple[nn.Module, Trained]], num_tiles: int) -> None:
        self._heads = [_Running(head, trained, num_tiles) for head, trained in models]

    @torch.inference_mode()
    def add(self, features: Float[np.ndarray, "tiles dim"]) -> None:
        """Take some more tiles into account; none is fine."""
        if len(features):
            tensor = torch.from_numpy(features).float()
            for head in self._heads:
                head.add(tensor)

    @torch.inference_mode()
    def answers(self) -> Float[np.ndarray, "heads columns"]:
        """What each head says of the tiles so far; no row if there were none."""
        return np.array([head.answer() for head in self._heads if head.seen])

    def estimate(self) -> str:
        """The mean answer of interest of the tiles so far, in words; empty before the first."""
        answers = self.answers()
        task = self._heads[0].trained.task
        column = list(task.columns).index(task.of_interest)
        return (
            f"{name_of(task.of_interest)} = {answers[:, column].mean():.3f}" if len(answers) else ""
        )

    @torch.inference_mode()
    def conclude(self) -> list[Applied]:
        """What each head says of the slide; at least one tile was readable."""
        return [head.conclude() for head in self._heads]
