"""Rows of branches.csv: each branch of a head on each test slide."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mil.evaluate.branch_slides import AblatedSlide
from mil.trained.record import Trained


def branch_rows(record: Trained, slide: AblatedSlide, has_parts: bool) -> list[dict[str, object]]:
    """A row for each branch of a head on a slide.

    Args:
        record: Record of the head.
        slide: The slide without each branch.
        has_parts: Whether the table has columns for the parts of the branches in the
            logits, which all its slides must have.
    """
    return [
        _row(record, slide, branch, has_parts=has_parts) for branch in range(len(slide.without))
    ]


def _row(
    record: Trained, slide: AblatedSlide, branch: int, *, has_parts: bool
) -> dict[str, object]:
    attention = None if slide.annotated is None else slide.annotated.attention
    row: dict[str, object] = {
        "slide": slide.bag.name,
        "patient": slide.bag.patient,
        "label": slide.bag.label,
        "seed": record.seed,
        "fold": record.fold,
        "branch": branch + 1,
        **_columns("without_", record.task.columns, slide.without[branch]),
        "kl": _cell(slide.kl, branch),
        "spread": _cell(slide.spread, branch),
        "attention_annotated": _cell(attention, branch),
    }
    if has_parts and slide.parts is not None:
        outputs = [str(number + 1) for number in range(record.task.outputs)]
        row |= _columns("part_of_logit_", outputs, slide.parts[branch])
    return row


def _columns(
    prefix: str, names: Sequence[str], values: Float[np.ndarray, " columns"]
) -> Mapping[str, str]:
    return {
        f"{prefix}{name}": _number(value)
        for name, value in zip(names, values.tolist(), strict=True)
    }


def _cell(values: Float[np.ndarray, " branches"] | None, branch: int) -> str:
    """Value of a branch; empty where it is not known."""
    return "" if values is None else _number(values[branch])


def _number(value: float) -> str:
    return f"{value:.6g}"
