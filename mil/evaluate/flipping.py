"""Patch flipping of one slide: evidence toward the prediction as tiles are removed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mil.io.scores import MAP_KINDS, HeadScores
from mil.statistics.flipping import FlipCurves
from mil.tasks import Task
from mil.trained.tile_maps import SIGNED


def flip_curves(task: Task, heads: Sequence[HeadScores]) -> dict[str, FlipCurves]:
    """Curves of one slide by kind of map, mean over its heads; only kinds that are known.

    Args:
        task: Task of the heads.
        heads: Scores of the slide by each head.
    """
    curves: dict[str, FlipCurves] = {}
    for kind in MAP_KINDS:
        changes = [
            _change(task, head, flipped, is_signed=kind in SIGNED)
            for head in heads
            if (flipped := head.flipped(kind)) is not None
        ]
        # Share 0 is the whole bag: a kind without evidence has NaN there too.
        changes = [change for change in changes if np.isfinite(change[:, 1:]).any()]
        if changes:
            curves[kind] = FlipCurves(*np.mean(changes, axis=0))
    return curves


def _change(
    task: Task,
    head: HeadScores,
    logits: Float[np.ndarray, "2 shares outputs"],
    *,
    is_signed: bool,
) -> Float[np.ndarray, "2 shares"]:
    """Change of the evidence toward the prediction, by order and share removed.

    Signed maps rank tiles by what they say for the class of interest (or a large
    number), and so the evidence for that should fall while the highest are removed,
    whatever the prediction: of two classes, turning both the order and the sign gives
    the same area. Attention, and its rollout, have no sign. Where they go decides the
    prediction, which is against the class of interest where the log-odds are below 0; and
    of a number, the prediction is lost where it moves either way.
    """
    column = task.column_of_interest
    whole = task.evidence(head.logits[None], column)[0]
    change = np.full(logits.shape[:2], np.nan)
    known = np.isfinite(logits).all(-1)
    change[known] = task.evidence(logits[known], column) - whole
    if is_signed:
        return change
    if not task.classes:
        return -np.abs(change)
    return change if whole >= 0 else -change
