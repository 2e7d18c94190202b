"""The score file: what each head of one recipe computed of one bag.

Written by `mil score`, the only stage in which a head meets a bag, and read by `mil
evaluate` and `mil heatmap`, which therefore need no torch. All heads of a recipe (its
seeds and folds) lie along the first axis of every dataset. Each dataset states its unit
and its axes; a reader ignores datasets that it does not know, so that further evidence
about tiles can be added without a new version of the format.
"""

from mil.io.scores.content import (
    FLIP_SHARES,
    FLIPPED_KINDS,
    MAP_KINDS,
    BagScores,
    BranchAblation,
    HeadScores,
    MapKind,
    Outputs,
    ScoredBag,
    ScoringHead,
    TileEvidence,
    TileSelection,
    tiles_left,
)
from mil.io.scores.file import score_path
from mil.io.scores.read import read_branch_parts, read_records_of, read_scores
from mil.io.scores.sources import check_bags, check_tiles
from mil.io.scores.write import write_scores

__all__ = [
    "FLIPPED_KINDS",
    "FLIP_SHARES",
    "MAP_KINDS",
    "BagScores",
    "BranchAblation",
    "HeadScores",
    "MapKind",
    "Outputs",
    "ScoredBag",
    "ScoringHead",
    "TileEvidence",
    "TileSelection",
    "check_bags",
    "check_tiles",
    "read_branch_parts",
    "read_records_of",
    "read_scores",
    "score_path",
    "tiles_left",
    "write_scores",
]
