"""What heads make of tiles that are not in a bag, measured against the bag."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags, join
from mil.heads import Streams
from mil.trained.assembled import StreamingAssembled
from mil.trained.record import Trained

# Tiles that are scored at a time.
BATCH = 256


class FineScores(NamedTuple):
    """Scores of further tiles of a slide, mean over the heads.

    Attributes:
        relative: Attention as a multiple of uniform attention, by the bag's own
            denominators: exp(score) over the sum of the bag's, times its tiles. A tile of
            the bag has exactly its own attention.
        alone: Evidence of a bag that is this tile alone.
        effect: Evidence that the bag gains when this tile is added. For a tile of the bag
            it is about the evidence lost when that is removed.
    """

    relative: Float[np.ndarray, " fine"]
    alone: Float[np.ndarray, " fine"]
    effect: Float[np.ndarray, " fine"]


@torch.inference_mode()
def fine_scores(
    models: Sequence[tuple[nn.Module, Trained]],
    bag: Bags,
    features: Float[np.ndarray, "fine dim"],
    column: str = "",
) -> FineScores:
    """Score tiles that are not in the bag.

    Args:
        models: Heads whose tiles are independent (`mil.heads.Streams`), with their
            records.
        bag: The slide's bag.
        features: Features of the tiles, as a bag would hold them.
        column: Prediction that evidence is about; empty: that of interest.
    """
    tiles = torch.from_numpy(features).float()
    by_head = []
    for head, trained in models:
        scored = _ScoredBag(head, trained, bag, column)
        batches = [scored.of(batch) for batch in tiles.split(BATCH)]
        by_head.append(np.concatenate(batches, axis=1))
    return FineScores(*np.mean(by_head, axis=0))


class _ScoredBag:
    """A head with its summary of a bag."""

    def __init__(self, head: nn.Module, trained: Trained, bag: Bags, column: str) -> None:
        self._head = head
        self._streams = cast(Streams, head)
        self._trained = trained
        self._column = column or trained.task.column_of_interest
        self._part, scores = self._streams.part(bag.features)
        self._whole = self._streams.conclude(self._part, scores).logits
        # Of the bag's own softmax: further tiles change no tile's share.
        attended = self._attended(bag.features)
        self._log_means = [columns.logsumexp(0) - np.log(len(columns)) for columns in attended]

    def _attended(
        self, features: Float[Tensor, "tiles dim"]
    ) -> list[Float[Tensor, "tiles branches"]]:
        """Scores of the branches that a heatmap shows, by member; see `mil.bags.attention`."""
        head = self._head
        of_class = self._trained.task.attended
        # Members attend apart: each has denominators of its own.
        members = [(self._streams, features)]
        if isinstance(head, StreamingAssembled):
            members = list(head.each(features))
        attended = []
        for member, own in members:
            output = member.conclude(*member.part(own))
            scores = output.scores.double()
            one_class = output.per_class and of_class is not None
            attended.append(scores[:, of_class, None] if one_class else scores)
        return attended

    def _evidence(self, logits: Float[Tensor, "n outputs"]) -> Float[np.ndarray, " n"]:
        return self._trained.task.evidence(logits.double().numpy(), self._column)

    def of(self, tiles: Float[Tensor, "fine dim"]) -> Float[np.ndarray, "3 fine"]:
        """Relative attention, evidence alone, and effect of each tile."""
        relative = [
            (scores - log_mean).exp().mean(1)
            for scores, log_mean in zip(self._attended(tiles), self._log_means, strict=True)
        ]
        alone = self._evidence(self._head(join(list(tiles.split(1)))).logits)
        added = torch.cat([self._with(tile) for tile in tiles.split(1)])
        effect = self._evidence(added) - self._evidence(self._whole)
        return np.stack([torch.stack(relative).mean(0).numpy(), alone, effect])

    def _with(self, tile: Float[Tensor, "1 dim"]) -> Float[Tensor, "1 outputs"]:
        """Logits of the bag with one tile more."""
        part, scores = self._streams.part(tile)
        return self._streams.conclude(self._part.merge(part), scores).logits
