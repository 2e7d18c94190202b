"""Predictions while tiles are still read.

Of a slide only the scores of its tiles are kept: memory hardly grows with it.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import join
from mil.heads import Part, Streams
from mil.io.scores import HeadScores
from mil.statistics.text import with_threshold
from mil.trained import Trained
from mil.trained.forward import predictions, scores_of
from mil.trained.record import threshold_of


class _RunningHead:
    """One head on one slide."""

    def __init__(self, head: nn.Module, trained: Trained, num_tiles: int) -> None:
        self.head = cast(Streams, head)
        self.trained = trained
        self._num_tiles = num_tiles
        self.part: Part | None = None
        # Scores [tiles, branches], of which the first `seen` rows are known.
        self.scores = torch.empty(0, 1)
        self.seen = 0

    def add(self, features: Tensor) -> None:
        part, scores = self.head.part(features)
        if self.part is None:
            # All at once: growing with every batch would copy them each time.
            self.scores = scores.new_empty(self._num_tiles, scores.shape[1])
        # Exact, not an approximation: the softmax over a bag is merged from those of
        # its parts.
        self.part = part if self.part is None else self.part.merge(part)
        self.scores[self.seen : self.seen + len(scores)] = scores
        self.seen += len(scores)

    def predictions(self) -> Float[np.ndarray, " columns"]:
        """Predictions as if there were no more tiles."""
        assert self.part is not None
        # The logits do not depend on the scores that are passed on: one row will do.
        output = self.head.conclude(self.part, self.scores[:1])
        return predictions(self.trained, output.logits)[0].double().numpy()

    def conclude(self) -> HeadScores:
        assert self.part is not None
        scores = self.scores[: self.seen]
        output = self.head.conclude(self.part, scores)
        return scores_of(self.trained, output, join([scores.new_empty(self.seen, 0)]))


class Running:
    """Heads of one recipe on one slide, given its readable tiles batch by batch.

    Args:
        models: Heads that stream, each with its record; see `mil.heads.Streams`.
        num_tiles: Number of tiles of the slide, at most.
    """

    def __init__(self, models: Sequence[tuple[nn.Module, Trained]], num_tiles: int) -> None:
        self._heads = [_RunningHead(head, trained, num_tiles) for head, trained in models]

    @torch.inference_mode()
    def add(self, features: Float[np.ndarray, "tiles dim"]) -> None:
        """Take some more tiles into account; none is fine."""
        if len(features):
            # As `tensors_of` hands on a whole bag, or streaming would change the
            # prediction.
            tensor = torch.from_numpy(features).float()
            for head in self._heads:
                head.add(tensor)

    @torch.inference_mode()
    def predictions(self) -> Float[np.ndarray, "heads columns"]:
        """Predictions of each head from the tiles so far; no row if there were none."""
        return np.array([head.predictions() for head in self._heads if head.seen])

    def estimate(self) -> str:
        """Mean prediction of interest from the tiles so far; empty before the first."""
        rows = self.predictions()
        if not len(rows):
            return ""
        records = [head.trained for head in self._heads]
        task = records[0].task
        column = list(task.columns).index(task.column_of_interest)
        # It may still change much: tiles are read from top to bottom, and this is of
        # the upper ones.
        mean = float(rows[:, column].mean())
        return with_threshold(task.column_of_interest, mean, threshold_of(records))

    @torch.inference_mode()
    def conclude(self) -> list[HeadScores]:
        """Scores of the slide by each head; at least one tile was readable."""
        return [head.conclude() for head in self._heads]
