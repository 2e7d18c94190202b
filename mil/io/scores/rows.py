"""Scores of one head from its rows of the datasets."""

from typing import Any

import numpy as np

from mil.io.scores.content import BranchAblation, HeadScores, Outputs, TileEvidence, TileSelection


def scores_of_head(arrays: dict[str, np.ndarray], number: int) -> HeadScores:
    """The rows of one head."""
    rows = {name: array[number] for name, array in arrays.items()}
    return HeadScores(
        logits=rows["logits"],
        predictions=rows["predictions"],
        attention=rows["attention"],
        rollout=_known(rows.get("rollout")),
        branch_logits=without_padding(rows.get("branch_logits"), axis=0),
        branch_parts=without_padding(rows.get("branch_parts"), axis=0),
        branch_attention=without_padding(rows.get("branch_attention"), axis=1),
        ablation=_ablation(rows),
        last=_outputs(rows, "last"),
        selection=_selection(rows),
        evidence=_evidence(rows),
        flipped_logits=_known(rows.get("flipped_logits")),
        flipped_rollout=_known(rows.get("flipped_rollout")),
    )


def _ablation(rows: dict[str, np.ndarray]) -> BranchAblation | None:
    logits = without_padding(rows.get("ablated_logits"), axis=0)
    if logits is None:
        return None
    attention = without_padding(rows.get("ablated_attention"), axis=1)
    if attention is None:
        attention = without_padding(rows.get("branch_attention"), axis=1)
    is_of_these = attention is not None and attention.shape[1] == len(logits)
    return BranchAblation(logits, attention if is_of_these else None)


def _evidence(rows: dict[str, np.ndarray]) -> TileEvidence | None:
    alone = _known(rows.get("alone"))
    effect = _known(rows.get("effect"))
    if alone is None or effect is None:
        return None
    tiles = _known(rows.get("removed_tiles"))
    error = _known(rows.get("completeness_error"))
    return TileEvidence(
        alone=alone,
        effect=effect,
        removed_tiles=None if tiles is None else tiles.astype(np.int64),
        removed_effect=_known(rows.get("removed_effect")),
        completeness_error=None if error is None else float(error[0]),
    )


def _known(rows: np.ndarray | None) -> np.ndarray | None:
    """Rows of a head; None where it has none."""
    return None if rows is None or np.isnan(rows).all() else rows


def without_padding(rows: np.ndarray | None, *, axis: int) -> np.ndarray | None:
    """Branches of a head, which has fewer than others of its recipe, or none."""
    if rows is None:
        return None
    is_branch = ~np.isnan(rows).all(1 - axis)
    return rows.compress(is_branch, axis) if is_branch.any() else None


def _selection(rows: dict[str, np.ndarray]) -> TileSelection | None:
    selected = rows.get("selected")
    # A head that selects tiles selects at least one.
    if selected is None or not selected.any():
        return None
    return TileSelection(
        selected=selected,
        full=_outputs(rows, "full"),
        random=_outputs(rows, "random"),
        rest=_outputs(rows, "rest"),
    )


def _outputs(rows: dict[str, Any], name: str) -> Outputs | None:
    logits = rows.get(f"{name}_logits")
    predicted = rows.get(f"{name}_predictions")
    if logits is None or predicted is None or np.isnan(predicted).all():
        return None
    return Outputs(logits, predicted)
