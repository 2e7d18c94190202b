"""Write a score file: the scores of all heads along the first axis of each dataset."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mil.io.checksums import write_arrays
from mil.io.h5 import writing
from mil.io.scores.content import (
    FLIP_SHARES,
    FLIPPED_KINDS,
    BagScores,
    BranchAblation,
    HeadScores,
    TileEvidence,
)
from mil.io.scores.file import DATASETS, FORMAT, VERSION, Record


def write_scores(path: Path, scores: BagScores, *, made_from: str = "") -> None:
    """Write a score file whole or not at all: contiguous, uncompressed, with checksums.

    Args:
        path: File to write.
        scores: Scores of a bag.
        made_from: Digest of what they depend on; see `mil.io.provenance`.
    """
    record = Record(scores.name, scores.state, scores.reason, scores.bags, scores.heads)
    text = json.dumps(asdict(record)).encode()
    arrays = {"record": np.frombuffer(text, np.uint8)}
    rows_of_heads = [_rows(head_scores) for head_scores in scores.scores]
    for name in DATASETS:
        stacked = _stacked([rows.get(name) for rows in rows_of_heads])
        if stacked is not None:
            arrays[name] = stacked
    with writing(path, FORMAT, VERSION, made_from=made_from) as file:
        write_arrays(file, arrays)
        file["record"].attrs.update(unit="UTF-8", axes="byte", meaning="bags and heads, as JSON")
        for name, dataset in DATASETS.items():
            if name in arrays:
                file[name].attrs.update(dataset._asdict())
        if "flipped_logits" in arrays:
            file["flipped_logits"].attrs.update(kinds=FLIPPED_KINDS, shares=FLIP_SHARES)


def _rows(scores: HeadScores) -> dict[str, np.ndarray | None]:
    """Rows of one head, by dataset."""
    rows = {
        "logits": scores.logits,
        "predictions": scores.predictions,
        "attention": scores.attention,
        "rollout": scores.rollout,
        "branch_logits": scores.branch_logits,
        "branch_parts": scores.branch_parts,
        "branch_attention": scores.branch_attention,
    }
    if scores.ablation is not None:
        rows |= _ablation_rows(scores.ablation, scores.branch_attention)
    if scores.evidence is not None:
        rows |= _evidence_rows(scores.evidence)
    rows["flipped_logits"] = scores.flipped_logits
    rows["flipped_rollout"] = scores.flipped_rollout
    outputs = {"last": scores.last}
    selection = scores.selection
    if selection is not None:
        rows["selected"] = selection.selected
        outputs |= {"full": selection.full, "random": selection.random, "rest": selection.rest}
    for name, values in outputs.items():
        if values is not None:
            rows[f"{name}_logits"] = values.logits
            rows[f"{name}_predictions"] = values.predictions
    return rows


def _ablation_rows(
    ablation: BranchAblation, branch_attention: np.ndarray | None
) -> dict[str, np.ndarray | None]:
    attention = ablation.attention
    is_known = (
        attention is not None
        and branch_attention is not None
        and np.array_equal(attention, branch_attention)
    )
    return {
        "ablated_logits": ablation.logits,
        "ablated_attention": None if is_known else attention,
    }


def _evidence_rows(evidence: TileEvidence) -> dict[str, np.ndarray | None]:
    error = evidence.completeness_error
    return {
        "alone": evidence.alone,
        "effect": evidence.effect,
        "removed_tiles": evidence.removed_tiles,
        "removed_effect": evidence.removed_effect,
        "completeness_error": None if error is None else np.array([error]),
    }


def _stacked(rows: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Rows of all heads, NaN or false for a head without any; None if no head has any."""
    known = [row for row in rows if row is not None]
    if not known:
        return None
    if known[0].dtype == bool:
        return np.stack([np.zeros_like(known[0]) if row is None else row for row in rows])
    # Ensembles of a recipe may average more members in one fold than in another, and have
    # as many more branches.
    shape = np.max([row.shape for row in known], axis=0)
    stacked = np.full((len(rows), *shape), np.nan, np.float32)
    for padded, row in zip(stacked, rows, strict=True):
        if row is not None:
            padded[tuple(slice(length) for length in row.shape)] = row
    return stacked
