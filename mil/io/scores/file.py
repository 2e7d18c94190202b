"""The score file itself: its path, its record and the datasets that it may hold."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from mil.errors import FormatError
from mil.io.scores.content import FLIP_SHARES, FLIPPED_KINDS, ScoredBag, ScoringHead
from mil.io.tables import valid_id
from mil.io.tables.ids import MAX_ID_BYTES

FORMAT = "mil.score"
VERSION = 1
# A patient's name that is longer, or is so in quotes, is replaced by its digest.
LONGEST_NAME = MAX_ID_BYTES
# The record of a head takes some 2 kB; a file that claims more than this is not ours.
LONGEST_RECORD_BYTES = 64 << 20


def score_path(folder: Path, name: str) -> Path:
    """File of a bag's scores: `NAME.h5`, escaped if the name cannot be a file's.

    Args:
        folder: Folder of score files.
        name: Slide, or with early fusion patient.
    """
    stem = name if valid_id(name) else quote(name, safe="")
    if len(stem.encode()) > LONGEST_NAME:
        stem = sha256(name.encode()).hexdigest()
    return folder / f"{stem}.h5"


@dataclass(frozen=True)
class Record:
    """Names, bags and heads, stored as JSON: attributes of HDF5 end at 64 kB."""

    name: str
    state: str
    reason: str
    bags: tuple[ScoredBag, ...]
    heads: tuple[ScoringHead, ...]


class Dataset(NamedTuple):
    """Attributes of a dataset of the file."""

    axes: str
    unit: str
    meaning: str


_LOGIT = "natural logarithm"
_COLUMN = "that of the column in predictions.csv"
_SHARE = "share of the bag; sums to 1 over its tiles"
_BOOL = "true or false"
_RANDOM = "from as many random tiles as selected"
_FLIPPED = "without the most, then the least important tiles, by kind of map"
_ROLLOUT = "as drawn in heatmaps; by the tiles before mixing layers"
_LAST = "by the last epoch's weights, uncalibrated"

# fmt: off
DATASETS = {
    "logits": Dataset("head output", _LOGIT, "uncalibrated"),
    "predictions": Dataset("head column", _COLUMN, "calibrated"),
    "attention": Dataset("head tile", _SHARE, "as drawn in heatmaps"),
    # A row is NaN where a head has no mixing layers.
    "rollout": Dataset("head tile", _SHARE, _ROLLOUT),
    "branch_logits": Dataset("head logit_branch output", _LOGIT, "of each branch"),
    "branch_parts": Dataset("head part output", _LOGIT, "of each branch in the logits"),
    "branch_attention": Dataset("head tile branch", _SHARE, "of each branch or class"),
    # Rows are NaN where a head has fewer branches.
    "ablated_logits": Dataset("head ablated output", _LOGIT, "without each branch"),
    # Only where the branches are others than those of `branch_attention`.
    "ablated_attention": Dataset("head tile ablated", _SHARE, "of the branch left out"),
    "last_logits": Dataset("head output", _LOGIT, _LAST),
    "last_predictions": Dataset("head column", _COLUMN, _LAST),
    # A row is all false where a head selects no tiles.
    "selected": Dataset("head tile", _BOOL, "tiles that the head predicts from"),
    # Rows are NaN where there is no such selection.
    "full_logits": Dataset("head output", _LOGIT, "from all tiles"),
    "full_predictions": Dataset("head column", _COLUMN, "from all tiles"),
    "random_logits": Dataset("head draw output", _LOGIT, _RANDOM),
    "random_predictions": Dataset("head draw column", _COLUMN, _RANDOM),
    "rest_logits": Dataset("head output", _LOGIT, "from the tiles that were not selected"),
    "rest_predictions": Dataset("head column", _COLUMN, "from the tiles that were not selected"),
    # Rows are NaN where a head has no such evidence.
    "alone": Dataset("head tile output", _LOGIT, "logits of a bag that is this tile alone"),
    "effect": Dataset("head tile output", _LOGIT, "logits lost when this tile is removed"),
    # Numbers of valid tiles, from 0; NaN where `effect` is exact.
    "removed_tiles": Dataset("head removed", "number", "tiles removed to check `effect`"),
    "removed_effect": Dataset("head removed output", _LOGIT, "logits lost without the tile"),
    "completeness_error": Dataset("head one", "fraction", "of integrated gradients"),
    "flipped_logits": Dataset("head kind order share output", _LOGIT, _FLIPPED),
    "flipped_rollout": Dataset("head order share output", _LOGIT, "the same by the rollout"),
}
# fmt: on
NEEDED = ("logits", "predictions", "attention")
# Lengths of axes that are the same in every file.
LENGTHS = {"one": 1, "kind": len(FLIPPED_KINDS), "order": 2, "share": len(FLIP_SHARES)}
# Datasets with a row for each tile, which are read only where they are asked for.
EVIDENCE = ("alone", "effect", "removed_tiles", "removed_effect", "completeness_error")


def damaged(path: Path, reason: str) -> FormatError:
    """Error of a score file that cannot be what `mil score` wrote."""
    return FormatError(f"{path}: {reason}; delete it and run `mil score` again")
