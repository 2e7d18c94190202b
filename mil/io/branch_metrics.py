"""Section `branches` of metrics.json: what each branch of a head does when it is left out."""

from pydantic import Field

from mil.config import Section
from mil.io.map_metrics import TopHits
from mil.statistics.metric import Metric


class BranchMetrics(Section):
    """A branch, or attention head, of one trained head, on the test slides of its fold."""

    branch: int  # from 1
    # Main metric without the branch less that with it; below 0: the branch helps.
    change: Metric
    # Mean divergence of the prediction from that without the branch, nats; None without
    # classes.
    kl: float | None
    # Mean share of the branch's attention on annotated tiles; None: nothing is annotated.
    attention_annotated: float | None = None
    # Annotated slides of which one of the first k tiles of the branch is annotated.
    top_hits: list[TopHits] = Field([])
    # Mean distance of the attention from its own centre, sides of a tile; None: positions of
    # tiles are not known.
    spread: float | None = None


class HeadBranches(Section):
    """The branches of one trained head."""

    seed: int
    fold: int
    n_slides: int  # test slides of the fold
    n_annotated: int  # those that are annotated and that the head should find
    value: float | None  # main metric with all branches
    why_not: str = ""  # why the change has no interval; empty: it has one
    annotated_by_chance: float | None = None  # share of tiles that are annotated
    spread_by_chance: float | None = None  # of uniform attention
    branches: list[BranchMetrics]

    @property
    def name(self) -> str:
        """`seed 1, fold 0`."""
        return f"seed {self.seed}, fold {self.fold}"


class BranchesOfRecipe(Section):
    """Branches of all heads of a recipe."""

    metric: str  # main metric of the task
    method: str = ""  # of the intervals
    heads: list[HeadBranches]
