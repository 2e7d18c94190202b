"""Scores of one bag by one head: predictions, attention, evidence of tiles, branches."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mil.bags import Bags
from mil.errors import FormatError
from mil.heads import SelectsTiles
from mil.io.scores import HeadScores, Outputs
from mil.score.flipping import flipped_by, flipped_logits
from mil.score.heads import LoadedHead
from mil.score.selection import with_other_selections
from mil.trained.ablation import ablation_of
from mil.trained.evidence import evidence_of
from mil.trained.forward import forward
from mil.trained.record import Trained


def scores_by(head: LoadedHead, bags: Bags, path: Path) -> HeadScores:
    """Apply a head to a bag.

    Args:
        head: The head.
        bags: One bag.
        path: File of the bag, for messages.

    Raises:
        FormatError: The head's predictions overflow.
    """
    scores = forward(head.head, head.trained, bags)
    # Weights and features may be finite, and the predictions overflow all the same.
    _check_finite(head.trained, path, scores.predictions, scores.attention)
    if scores.rollout is not None:
        _check_finite(head.trained, path, scores.rollout)
    scores = replace(scores, ablation=ablation_of(head.head, bags))
    if scores.ablation is not None:
        _check_finite(head.trained, path, scores.ablation.logits)
    if isinstance(head.head, SelectsTiles):
        scores = with_other_selections(head.head, head.trained, bags, scores)
    if head.has_evidence:
        scores = _with_evidence(head, bags, scores, path)
    if head.last is None:
        return scores
    # The calibration was fitted to the kept epoch.
    uncalibrated = head.trained.model_copy(update={"calibration": None})
    last = forward(head.last, uncalibrated, bags)
    return replace(scores, last=Outputs(last.logits, last.predictions))


def _with_evidence(head: LoadedHead, bags: Bags, scores: HeadScores, path: Path) -> HeadScores:
    """Add the evidence of each tile, and patch flipping by it."""
    removals, evidence = evidence_of(head.head, head.remover, bags)
    _check_finite(head.trained, path, evidence.alone, evidence.effect)
    scores = replace(scores, evidence=evidence)
    flipped = flipped_logits(removals, head.trained, scores)
    _check_finite(head.trained, path, flipped[~np.isnan(flipped)])
    by_rollout = flipped_by("rollout", removals, head.trained, scores)
    if by_rollout is not None:
        _check_finite(head.trained, path, by_rollout[~np.isnan(by_rollout)])
    return replace(scores, flipped_logits=flipped, flipped_rollout=by_rollout)


def _check_finite(trained: Trained, bag: Path, *values: np.ndarray) -> None:
    """Refuse scores that overflowed."""
    if not all(np.isfinite(numbers).all() for numbers in values):
        raise FormatError(
            f"{bag}: {trained.recipe_name} seed {trained.seed} fold {trained.fold} predicts no "
            "number for it, since its training diverged; train it again, with a lower train.lr"
        )
