"""Branches left out one at a time: what each does to predictions, and where it attends.

As the retrieval heads of language models are looked for (Wu et al. 2024,
https://arxiv.org/abs/2404.15574): which branches find the annotated tiles, and what is
lost without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.evaluate.branch_metrics import branches_of_head
from mil.evaluate.branch_slides import AblatedSlide, ablated_slide, tile_positions
from mil.evaluate.branch_table import branch_rows
from mil.evaluate.mapped import ScoredHead
from mil.io.branch_metrics import BranchesOfRecipe
from mil.trained.record import Trained


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

    def add(self, heads: Sequence[ScoredHead], share: Float[np.ndarray, " tiles"] | None) -> None:
        """Add a bag.

        Args:
            heads: Heads whose fold has the bag, their scores read with the branches.
            share: Annotated share of each tile; None: not known.
        """
        of_test = [head for head in heads if head.bag.split == "test" and head.scores.ablation]
        if not of_test:
            return
        positions = tile_positions(self.bags_dir, of_test[0].bag)
        for head in of_test:
            assert head.scores.ablation is not None
            run = head.record.seed, head.record.fold
            ablated = self.heads.setdefault(run, AblatedHead(head.record, []))
            slide = ablated_slide(head, head.scores.ablation, share, positions)
            ablated.slides.append(slide)

    def metrics(self) -> BranchesOfRecipe | None:
        """Metrics of all branches; None where no head has branches."""
        if not self.heads:
            return None
        heads = []
        methods = []
        for (seed, fold), head in sorted(self.heads.items()):
            of_head, method = branches_of_head(seed, fold, head.record.task, head.slides)
            heads.append(of_head)
            methods.append(method)
        task = next(iter(self.heads.values())).record.task
        # Heads whose slides allow no test have no method.
        method = next(filter(None, methods), "")
        return BranchesOfRecipe(metric=task.main_metric, method=method, heads=heads)

    def rows(self) -> list[dict[str, object]]:
        """Rows of branches.csv: a branch of a head on a test slide."""
        slides = [
            (self.heads[run].record, slide)
            for run in sorted(self.heads)
            for slide in sorted(self.heads[run].slides, key=lambda slide: slide.bag.name)
        ]
        has_parts = all(slide.parts is not None for _, slide in slides)
        return [row for record, slide in slides for row in branch_rows(record, slide, has_parts)]
