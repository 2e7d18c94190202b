"""A test slide without each branch of a head, and where the branches attend on it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.evaluate.localise import ANNOTATED
from mil.evaluate.mapped import ScoredHead
from mil.evaluate.top_hits import top_hits, top_hits_by_chance
from mil.io.bags import read_positions
from mil.io.bags.patients import FoldBag
from mil.io.scores import BranchAblation
from mil.trained.record import Trained

Attention = Float[np.ndarray, "tiles branches"]  # of each branch, sums to 1 over the tiles
Positions = Float[np.ndarray, "tiles 2"]  # sides of a tile


class AnnotatedBranches(NamedTuple):
    """Where the branches attend on a slide that the head should find, and what chance gives."""

    attention: Float[np.ndarray, " branches"]  # share on annotated tiles
    top_hits: Float[np.ndarray, "branches ks"]
    share: float
    top_by_chance: Float[np.ndarray, " ks"]


class AblatedSlide(NamedTuple):
    """A test slide by one head, as it is and without each branch."""

    bag: FoldBag
    whole: Float[np.ndarray, " columns"]
    without: Float[np.ndarray, "branches columns"]
    kl: Float[np.ndarray, " branches"] | None
    annotated: AnnotatedBranches | None
    # Mean distance of each branch's attention from its centre, and of uniform attention,
    # sides of a tile; None: not known.
    spread: Float[np.ndarray, " branches"] | None
    spread_by_chance: float | None
    # Parts of the branches in the logits; None: logits are no such sum.
    parts: Float[np.ndarray, "branches outputs"] | None


def ablated_slide(
    head: ScoredHead,
    ablation: BranchAblation,
    share: Float[np.ndarray, " tiles"] | None,
    positions: Float[np.ndarray, "_ 2"] | None,
) -> AblatedSlide:
    """What leaving out each branch does to a slide.

    Args:
        head: The head with its scores of the slide.
        ablation: What the score file holds of its branches.
        share: Annotated share of each tile, 0..1; None: not known.
        positions: Positions of the tiles; None: not known.
    """
    task = head.record.task
    whole = calibrated_predictions(head.record, head.scores.logits[None])
    without = calibrated_predictions(head.record, ablation.logits)
    attention = ablation.attention
    annotated = None
    if attention is not None and share is not None and task.attends_to_annotations(head.bag.label):
        annotated = annotated_branches(attention, share)
    spread = None
    spread_by_chance = None
    if attention is not None and positions is not None and len(positions) == len(attention):
        spread = spread_of(attention, positions)
        uniform = np.full((len(attention), 1), 1 / len(attention))
        spread_by_chance = float(spread_of(uniform, positions)[0])
    parts = head.scores.branch_parts
    if parts is not None and len(parts) != len(without):
        parts = None
    return AblatedSlide(
        bag=head.bag,
        whole=whole[0],
        without=without,
        kl=task.divergence(np.repeat(whole, len(without), axis=0), without),
        annotated=annotated,
        spread=spread,
        spread_by_chance=spread_by_chance,
        parts=parts,
    )


def calibrated_predictions(
    record: Trained, logits: Float[np.ndarray, "n outputs"]
) -> Float[np.ndarray, "n columns"]:
    """Predictions of a head from logits, with its calibration.

    Args:
        record: Record of the head.
        logits: Uncalibrated logits, a row for each bag.
    """
    if record.calibration is not None:
        logits = record.calibration.scaling.of(logits)
    return record.task.predictions(logits)


def annotated_branches(
    attention: Attention, share: Float[np.ndarray, " tiles"]
) -> AnnotatedBranches | None:
    """Where branches attend; None unless some tiles are annotated and others are not.

    Args:
        attention: Attention of each branch.
        share: Annotated share of each tile, 0..1.
    """
    annotated = share >= ANNOTATED
    if not annotated.any() or annotated.all():
        return None
    return AnnotatedBranches(
        attention=attention[annotated].sum(0),
        top_hits=np.stack([top_hits(of_branch, share) for of_branch in attention.T]),
        share=float(annotated.mean()),
        top_by_chance=top_hits_by_chance(share),
    )


def tile_positions(bags_dir: Path, bag: FoldBag) -> Positions | None:
    """Positions of a bag's tiles; None: not known, or of several slides.

    Args:
        bags_dir: Folder of the bags of slides.
        bag: The bag.
    """
    # Between tiles of two slides there is no distance.
    if len(bag.slides) != 1:
        return None
    positions = read_positions(bags_dir / f"{bag.slides[0]}.h5").positions()
    if positions is None:
        return None
    corners, side = positions
    return corners / side


def spread_of(attention: Attention, positions: Positions) -> Float[np.ndarray, " branches"]:
    """Mean distance of each branch's attention from its own centre, sides of a tile."""
    spread = []
    for weights in attention.T:
        centre = weights @ positions
        distances = np.linalg.norm(positions - centre, axis=1)
        spread.append(distances @ weights)
    return np.array(spread)
