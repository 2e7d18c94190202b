"""Maps of a slide's tiles: attention, and evidence for a prediction. No torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.io.scores import HeadScores, MapKind
from mil.tasks import Task
from mil.trained.record import Trained

# Kinds whose values say for or against a prediction.
SIGNED: tuple[MapKind, ...] = ("alone", "effect")
# Titles of the kinds of map.
TITLES: dict[MapKind, str] = {
    "attention": "attention",
    "alone": "evidence of the tile alone",
    "effect": "effect of the tile on the prediction",
    "rollout": "rollout of attention",
}
SHARE = "share of the bag"


class TileMap(NamedTuple):
    """A value for each valid tile of a slide, mean over heads."""

    kind: MapKind
    values: Float[np.ndarray, " tiles"]
    # Prediction that the values are about, one of the task's columns; empty for
    # attention and its rollout.
    column: str
    unit: str

    @property
    def is_signed(self) -> bool:
        """Whether values below 0 speak against the prediction."""
        return self.kind in SIGNED


def tile_map(
    kind: MapKind, records: Sequence[Trained], scores: Sequence[HeadScores], column: str = ""
) -> TileMap | None:
    """Map of one kind, mean over the heads; None where the scores have no such map.

    Args:
        kind: `attention`: share of the bag, sums to 1; `rollout`: the same by the tiles
            before mixing layers; `alone`: evidence of a bag that is this tile alone;
            `effect`: evidence lost when this tile is removed.
        records: Records of the heads.
        scores: Scores of the slide by each of them; for evidence, read with
            `read_scores(path, evidence=True)`.
        column: Column of the task's predictions; empty: that of interest.
    """
    if kind == "attention":
        attention = np.mean([head.attention for head in scores], axis=0)
        return TileMap(kind, attention, "", SHARE)
    if kind == "rollout":
        rollouts = [head.rollout for head in scores if head.rollout is not None]
        # A mean over some of the heads would not be that of the prediction.
        if len(rollouts) < len(scores) or not rollouts:
            return None
        return TileMap(kind, np.mean(rollouts, axis=0), "", SHARE)
    task = records[0].task
    of_column = column or task.column_of_interest
    values = _alone if kind == "alone" else _effect
    maps = [
        values(record.task, head, of_column)
        for record, head in zip(records, scores, strict=True)
        if head.evidence is not None
    ]
    if not maps:
        return None
    return TileMap(kind, np.mean(maps, axis=0), of_column, task.evidence_unit)


def _alone(task: Task, scores: HeadScores, column: str) -> Float[np.ndarray, " tiles"]:
    assert scores.evidence is not None
    return task.evidence(scores.evidence.alone, column)


def _effect(task: Task, scores: HeadScores, column: str) -> Float[np.ndarray, " tiles"]:
    assert scores.evidence is not None
    without = scores.logits - scores.evidence.effect
    whole = task.evidence(scores.logits[None], column)
    return whole - task.evidence(without, column)
