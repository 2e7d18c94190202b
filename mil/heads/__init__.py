"""MIL heads, one file each, found by file name: bags in, one `HeadOutput` out.

A head is its `Config` and its `Head(config, dim, classes)`. Some heads need more: the
protocols of `mil.heads._protocols`, which a head follows by having their methods. A head
whose prediction compares the classes sets `for_classes = True`, and is trained for
classification alone. Other packages add heads by entry points, see docs/how-to/own-head.md.
"""

from mil.config import head_names
from mil.heads._ablation import Ablated
from mil.heads._at_once import BagLoss, Division, FitProblem
from mil.heads._build import build_head, head_module, plugin_errors
from mil.heads._protocols import (
    TERM_AT_ONCE,
    AblatesBranches,
    FitsAtOnce,
    FollowsSteps,
    HoldsChoices,
    InShards,
    MixesTiles,
    Part,
    RemovesTiles,
    SelectsTiles,
    Streams,
    TwoStage,
    UsesGraph,
)
from mil.heads._removals import KEPT_BYTES, BothEnds, MeanRemovals, Removals, Remover
from mil.heads._shards import Shards
from mil.heads._stream import PoolsTiles

__all__ = [
    "KEPT_BYTES",
    "TERM_AT_ONCE",
    "Ablated",
    "AblatesBranches",
    "BagLoss",
    "BothEnds",
    "Division",
    "FitProblem",
    "FitsAtOnce",
    "FollowsSteps",
    "HoldsChoices",
    "InShards",
    "MeanRemovals",
    "MixesTiles",
    "Part",
    "PoolsTiles",
    "Removals",
    "Remover",
    "RemovesTiles",
    "SelectsTiles",
    "Shards",
    "Streams",
    "TwoStage",
    "UsesGraph",
    "build_head",
    "head_module",
    "head_names",
    "plugin_errors",
]
