"""Branches left out one at a time: what each does to predictions, and where it attends.

As the retrieval heads of language models are looked for (Wu et al. 2024,
https://arxiv.org/abs/2404.15574): which branches find the annotated tiles, and what is
lost without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.evaluate.localise import ANNOTATED, hit_of_drawn, top_hit
from mil.evaluate.mapped import TOP, ScoredHead
from mil.io.bags import read_positions
from mil.io.bags.patients import FoldBag
from mil.io.branch_metrics import BranchesOfRecipe, BranchMetrics, HeadBranches
from mil.io.map_metrics import TopHits
from mil.statistics.bootstrap import members
from mil.statistics.delong import Difference
from mil.statistics.intervals import proportion
from mil.statistics.metric import Metric
from mil.tasks import Task
from mil.tasks.base import Predictions
from mil.trained.record import Trained

Share = Float[np.ndarray, " tiles"]


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


class AblatedHead(NamedTuple):
    """A trained head with its test slides."""

    record: Trained
    slides: list[AblatedSlide]


@dataclass
class AblatedHeads:
    """What is kept of the branches of all heads, a bag at a time.

    Attributes:
        bags_dir: Folder of the bags, which say where tiles are.
        heads: Heads with branches, by seed and fold.
    """

    bags_dir: Path
    heads: dict[tuple[int, int], AblatedHead] = field(default_factory=dict)

    def add(self, heads: Sequence[ScoredHead], share: Share | None) -> None:
        """Add a bag.

        Args:
            heads: Heads whose fold has the bag, their scores read with the branches.
            share: Annotated share of each tile; None: not known.
        """
        of_test = [head for head in heads if head.bag.split == "test" and head.scores.ablation]
        if not of_test:
            return
        distances = _Tiles.of(self.bags_dir, of_test[0].bag)
        for head in of_test:
            run = head.record.seed, head.record.fold
            ablated = self.heads.setdefault(run, AblatedHead(head.record, []))
            ablated.slides.append(_ablated_slide(head, share, distances))

    def metrics(self) -> BranchesOfRecipe | None:
        """Metrics of all branches; None where no head has branches."""
        if not self.heads:
            return None
        measured = [_of_head(*run, self.heads[run]) for run in sorted(self.heads)]
        task = next(iter(self.heads.values())).record.task
        method = next((method for _, method in measured if method), "")
        return BranchesOfRecipe(
            metric=task.main_metric, method=method, heads=[head for head, _ in measured]
        )

    def rows(self) -> list[dict[str, object]]:
        """Rows of branches.csv: a branch of a head on a test slide."""
        slides = [
            (self.heads[run].record, slide)
            for run in sorted(self.heads)
            for slide in sorted(self.heads[run].slides, key=lambda slide: slide.bag.name)
        ]
        has_parts = all(slide.parts is not None for _, slide in slides)
        return [row for record, slide in slides for row in _rows(record, slide, has_parts)]


class _Tiles(NamedTuple):
    """Middles of a slide's tiles, in sides of a tile."""

    middles: Float[np.ndarray, "tiles 2"]

    @classmethod
    def of(cls, bags_dir: Path, bag: FoldBag) -> "_Tiles | None":
        """Positions of the bag's tiles; None: not known, or of several slides."""
        # Between tiles of two slides there is no distance.
        if len(bag.slides) != 1:
            return None
        places = read_positions(bags_dir / f"{bag.slides[0]}.h5").positions()
        if places is None:
            return None
        corners, side = places
        return cls(corners / side)

    def spread(
        self, attention: Float[np.ndarray, "tiles branches"]
    ) -> Float[np.ndarray, " branches"]:
        """Mean distance of each attention from its own centre."""
        distances = [
            np.linalg.norm(self.middles - weights @ self.middles, axis=1) for weights in attention.T
        ]
        return np.array(
            [far @ weights for far, weights in zip(distances, attention.T, strict=True)]
        )


def _ablated_slide(head: ScoredHead, share: Share | None, tiles: _Tiles | None) -> AblatedSlide:
    record, scores, bag = head
    ablation = scores.ablation
    assert ablation is not None
    task = record.task
    without = calibrated_predictions(record, ablation.logits)
    whole = calibrated_predictions(record, scores.logits[None])
    attention = ablation.attention
    annotated = None
    if attention is not None and share is not None and task.attends_to_annotations(bag.label):
        annotated = annotated_branches(attention, share)
    spread = by_chance = None
    if tiles is not None and attention is not None and len(tiles.middles) == len(attention):
        spread = tiles.spread(attention)
        uniform = np.full((len(attention), 1), 1 / len(attention))
        by_chance = float(tiles.spread(uniform)[0])
    parts = scores.branch_parts
    same = parts is not None and len(parts) == len(without)
    return AblatedSlide(
        bag=bag,
        whole=whole[0],
        without=without,
        kl=task.divergence(np.repeat(whole, len(without), axis=0), without),
        annotated=annotated,
        spread=spread,
        spread_by_chance=by_chance,
        parts=parts if same else None,
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
    attention: Float[np.ndarray, "tiles branches"], share: Share
) -> AnnotatedBranches | None:
    """Where branches attend; None unless some tiles are annotated and others are not.

    Args:
        attention: Attention of each branch, which sums to 1.
        share: Annotated share of each tile, 0..1.
    """
    annotated = share >= ANNOTATED
    if not annotated.any() or annotated.all():
        return None
    count = int(annotated.sum())
    return AnnotatedBranches(
        attention=attention[annotated].sum(0),
        top_hits=np.array([[top_hit(one, share, k) for k in TOP] for one in attention.T]),
        share=float(annotated.mean()),
        top_by_chance=np.array([hit_of_drawn(len(share), count, k) for k in TOP]),
    )


def _of_head(seed: int, fold: int, head: AblatedHead) -> tuple[HeadBranches, str]:
    """Metrics of a head's branches, and the method of their intervals."""
    task = head.record.task
    slides = sorted(head.slides, key=lambda slide: slide.bag.name)
    whole = np.stack([slide.whole for slide in slides])
    without = np.stack([slide.without for slide in slides], axis=1)
    targets = np.stack([task.target(slide.bag.label) for slide in slides])
    patients = [slide.bag.patient for slide in slides]
    predictions = [whole, *without]
    measured = [main_metric(task, targets, predicted) for predicted in predictions]
    changes, method, why_not = _changes(task, targets, predictions, patients)
    annotated = [slide for slide in slides if slide.annotated is not None]
    branches = [
        BranchMetrics(
            branch=branch + 1,
            change=Metric(
                value=_less(measured[branch + 1], measured[0]),
                ci95=changes[branch].ci95 if changes else None,
            ),
            kl=_mean([slide.kl[branch] for slide in slides if slide.kl is not None]),
            attention_annotated=_mean(
                [slide.annotated.attention[branch] for slide in annotated if slide.annotated]
            ),
            top_hits=_top_hits(annotated, branch),
            spread=_mean([slide.spread[branch] for slide in slides if slide.spread is not None]),
        )
        for branch in range(len(without))
    ]
    of_head = HeadBranches(
        seed=seed,
        fold=fold,
        n_slides=len(slides),
        n_annotated=len(annotated),
        value=measured[0],
        why_not=why_not,
        annotated_by_chance=_mean([one.annotated.share for one in annotated if one.annotated]),
        spread_by_chance=_mean(
            [slide.spread_by_chance for slide in slides if slide.spread_by_chance is not None]
        ),
        branches=branches,
    )
    return of_head, method


def main_metric(task: Task, targets: np.ndarray, predictions: Predictions) -> float | None:
    """Main metric of all slides; None: they do not allow it."""
    once = np.ones((1, len(targets)))
    value = task.weighted_metrics(targets, predictions, once)[task.main_metric][0]
    return float(value) if np.isfinite(value) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _changes(
    task: Task, targets: np.ndarray, predictions: Sequence[Predictions], patients: Sequence[str]
) -> tuple[list[Difference], str, str]:
    """Paired differences without each branch, their method, and why there are none."""
    pairs = [(branch, 0) for branch in range(1, len(predictions))]
    try:
        test = task.paired_test(targets, predictions, patients, pairs)
    # Too few patients, or a metric that these slides do not allow.
    except ValueError as error:
        return [], "", str(error)
    return test.differences, test.method, ""


def _top_hits(slides: Sequence[AblatedSlide], branch: int) -> list[TopHits]:
    known = [(slide.bag.patient, slide.annotated) for slide in slides if slide.annotated]
    if not known:
        return []
    member = members([patient for patient, _ in known])
    hits = []
    for number, k in enumerate(TOP):
        of_k = np.array([of.top_hits[branch, number] for _, of in known])
        chance = float(np.mean([of.top_by_chance[number] for _, of in known]))
        rate = Metric(value=float(of_k.mean()), ci95=proportion(of_k, member))
        hits.append(TopHits(k=k, rate=rate, by_chance=chance))
    return hits


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _rows(record: Trained, slide: AblatedSlide, has_parts: bool) -> list[dict[str, object]]:
    task = record.task
    rows = []
    for branch, predictions in enumerate(slide.without):
        annotated = slide.annotated
        row: dict[str, object] = {
            "slide": slide.bag.name,
            "patient": slide.bag.patient,
            "label": slide.bag.label,
            "seed": record.seed,
            "fold": record.fold,
            "branch": branch + 1,
            **_columns("without_", task.columns, predictions),
            "kl": _text(None if slide.kl is None else slide.kl[branch]),
            "spread": _text(None if slide.spread is None else slide.spread[branch]),
            "attention_annotated": _text(
                None if annotated is None else annotated.attention[branch]
            ),
        }
        if has_parts and slide.parts is not None:
            outputs = [str(number + 1) for number in range(task.outputs)]
            row |= _columns("part_of_logit_", outputs, slide.parts[branch])
        rows.append(row)
    return rows


def _columns(
    prefix: str, names: Sequence[str], values: Float[np.ndarray, " columns"]
) -> Mapping[str, str]:
    texts = map(_text, values.tolist())
    return {f"{prefix}{name}": text for name, text in zip(names, texts, strict=True)}


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
