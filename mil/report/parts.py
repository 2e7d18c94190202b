"""Parts of the branches in a slide's logit, as its page shows them."""

from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from mil.io.scores import read_branch_parts, score_path
from mil.report.study_files import ReportedHead
from mil.tasks import Task
from mil.trained.parts import SplitLogit, split_logit

# Branches that are named beside the bars.
STRONGEST = 3
# Size of the bars, pixels of the page.
WIDTH = 640
HEIGHT = 70
WIDEST = 24
FOR = "#b2182b"
AGAINST = "#2166ac"
LINE = "#5b6470"


class HeadParts(NamedTuple):
    """A row of the table: the logit of one trained head, split.

    Attributes:
        head: Seed and fold.
        name: Number that is split.
        value: The number.
        bias: Part of no branch.
        strongest: Branches of the largest parts, as text.
        bars: A bar for each branch, inline SVG.
    """

    head: str
    name: str
    value: str
    bias: str
    strongest: str
    bars: Markup


def parts_of(head: ReportedHead, slide: str, task: Task) -> list[HeadParts]:
    """A row for each trained head that did not train on the slide; empty without parts.

    Args:
        head: One recipe on one encoder.
        slide: Slide, or with early fusion patient.
        task: Task of the study.
    """
    if head.scores is None:
        return []
    path = score_path(head.scores, slide)
    if not path.is_file():
        return []
    unseen = {(row.seed, row.fold) for row in head.unseen(slide)}
    rows = []
    for record, of_head in zip(head.records, read_branch_parts(path), strict=False):
        if of_head is None or (record.seed, record.fold) not in unseen:
            continue
        split = split_logit(task, of_head.logits, of_head.parts)
        if split is not None:
            rows.append(_row(f"seed {record.seed}, fold {record.fold}", split))
    return rows


def _row(head: str, split: SplitLogit) -> HeadParts:
    order = np.argsort(-np.abs(split.parts), kind="stable")[:STRONGEST]
    strongest = [f"branch {number + 1} {_signed(split.parts[number])}" for number in order]
    rest = len(split.parts) - len(strongest)
    if rest:
        others = split.parts.sum() - split.parts[order].sum()
        strongest.append(f"other {rest} {_signed(others)}")
    return HeadParts(
        head,
        split.name,
        _signed(split.value),
        _signed(split.bias),
        ", ".join(strongest),
        bars(split.parts),
    )


def bars(parts: np.ndarray) -> Markup:
    """A bar for each branch, up for and down against, as inline SVG."""
    step = min(WIDTH / len(parts), WIDEST)
    top = float(np.abs(parts).max()) or 1.0
    middle = HEIGHT / 2
    drawn = []
    for number, part in enumerate(parts.tolist()):
        high = abs(part) / top * (middle - 1)
        y = middle - high if part > 0 else middle
        drawn.append(
            f'<rect x="{number * step:.1f}" y="{y:.1f}" width="{max(step - 1, 0.8):.1f}" '
            f'height="{high:.1f}" fill="{FOR if part > 0 else AGAINST}">'
            f"<title>branch {number + 1}: {_signed(part)}</title></rect>"
        )
    width = len(parts) * step
    # Numbers alone: nothing of a user's stands in it.
    return Markup(
        f'<svg role="img" aria-label="parts of {len(parts)} branches" width="{width:.0f}" '
        f'height="{HEIGHT}" viewBox="0 0 {width:.0f} {HEIGHT}">{"".join(drawn)}'
        f'<path d="M0 {middle}H{width:.0f}" stroke="{LINE}" stroke-width="0.7"/></svg>'
    )


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")
