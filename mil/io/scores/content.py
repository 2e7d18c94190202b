"""Content of a score file: what each head of one recipe computed of one bag."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Kinds of map of a slide's tiles.
MapKind = Literal["attention", "alone", "effect", "rollout"]
MAP_KINDS: tuple[MapKind, ...] = ("attention", "alone", "effect", "rollout")
# Those that `flipped_logits` has rows of; rollout, which few heads have, stands apart.
FLIPPED_KINDS: tuple[MapKind, ...] = ("attention", "alone", "effect")
# Shares of the tiles that are removed for patch flipping, rising on a log axis.
FLIP_SHARES = (0.0, *(10 ** (exponent / 8) for exponent in range(-24, 0)), 0.9, 0.95, 0.99)


def tiles_left(tiles: int) -> Int[np.ndarray, " shares"]:
    """Number of tiles that patch flipping leaves of a bag, for each of `FLIP_SHARES`.

    The number removed is the share of the tiles, rounded up: of small bags several shares
    are one number. 0: no tile would be left.
    """
    # 0.1 * 30 is a little over 3, and must not become 4.
    removed = np.ceil(np.array(FLIP_SHARES) * tiles - 1e-9)
    return (tiles - np.minimum(removed, tiles)).astype(np.int64)


class Outputs(NamedTuple):
    """Outputs of a head: before and after its task and calibration."""

    logits: Float[np.ndarray, "*rows outputs"]
    # In the order of the task's columns; of classes their calibrated probabilities.
    predictions: Float[np.ndarray, "*rows columns"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TileSelection:
    """Tiles that a head selected, and its outputs had it selected others."""

    selected: Bool[np.ndarray, " tiles"]
    # From all tiles; None for a head that does not say.
    full: Outputs | None = None
    # From as many tiles drawn at random: a row for each draw.
    random: Outputs | None = None
    # From the tiles that were not selected; None where there are none.
    rest: Outputs | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TileEvidence:
    """What each tile does to the logits of its bag, by one head; uncalibrated."""

    # Logits of a bag that is this tile alone.
    alone: Float[np.ndarray, "tiles outputs"]
    # Logits of the bag less those of the bag without this tile. Of heads whose tiles
    # attend to one another, an estimate: integrated gradients.
    effect: Float[np.ndarray, "tiles outputs"]
    # Where `effect` is an estimate, the same computed by removing some tiles, drawn at
    # random: their numbers among the valid tiles, and the logits lost.
    removed_tiles: Int[np.ndarray, " removed"] | None = None
    removed_effect: Float[np.ndarray, "removed outputs"] | None = None
    # Where `effect` is an estimate: relative error of the sum of integrated gradients.
    completeness_error: float | None = None


@dataclass(frozen=True, eq=False)
class BranchAblation:
    """A bag without each branch of a head, or without each of its attention heads."""

    # Uncalibrated.
    logits: Float[np.ndarray, "ablated outputs"]
    # Attention of the branch that is left out, which sums to 1; None: not read.
    attention: Float[np.ndarray, "tiles ablated"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadScores:
    """Scores of one bag by one head. Arrays are float64 and hold float32 values."""

    logits: Float[np.ndarray, " outputs"]
    # In the order of the task's columns; of classes their calibrated probabilities.
    predictions: Float[np.ndarray, " columns"]
    # Sums to 1 over the valid tiles: that of the class of interest where classes attend
    # apart, else the mean of the branches.
    attention: Float[np.ndarray, " tiles"]
    # The same by the tiles whose features were mixed into those that `attention` is of. None
    # for a head without mixing layers.
    rollout: Float[np.ndarray, " tiles"] | None = None
    # Branches that predict may be others than those that attend, as in DSMIL.
    branch_logits: Float[np.ndarray, "logit_branches outputs"] | None = None
    # Parts of the branches in `logits`: with a bias they sum to them. None where logits are
    # no such sum.
    branch_parts: Float[np.ndarray, "parts outputs"] | None = None
    # Each column sums to 1. Branches are classes where classes attend apart; None for a
    # single one.
    branch_attention: Float[np.ndarray, "tiles branches"] | None = None
    # None for a head of a single branch, and one whose branches cannot be left out.
    ablation: BranchAblation | None = None
    # By the weights of the last epoch, uncalibrated; None where they were not kept.
    last: Outputs | None = None
    selection: TileSelection | None = None
    # None: not computed, as in files of earlier versions.
    evidence: TileEvidence | None = None
    # Logits after the most and the least important tiles were removed, by kind of map
    # (`FLIPPED_KINDS`) and share of tiles (`FLIP_SHARES`); NaN where no tile would be left.
    flipped_logits: Float[np.ndarray, "kinds 2 shares outputs"] | None = None
    # The same by the rollout, where there is one.
    flipped_rollout: Float[np.ndarray, "2 shares outputs"] | None = None

    def flipped(self, kind: MapKind) -> Float[np.ndarray, "2 shares outputs"] | None:
        """Logits after tiles were removed in the order of a map; None: not known."""
        if kind == "rollout":
            return self.flipped_rollout
        if self.flipped_logits is None:
            return None
        rows: np.ndarray = self.flipped_logits[FLIPPED_KINDS.index(kind)]
        return rows


@dataclass(frozen=True)
class ScoringHead:
    """A head that scored a bag.

    Attributes:
        record: Text of its `recipe.json`; `mil.trained.record.parse_record` reads it.
        sha256: SHA-256 of `head.safetensors`, hex.
        last_sha256: SHA-256 of `last.safetensors`; empty where that was not used.
    """

    record: str
    sha256: str
    last_sha256: str = ""


@dataclass(frozen=True)
class ScoredBag:
    """A bag file that was scored, alone or as part of a patient's bag.

    Attributes:
        slide: Slide of the bag.
        digest: See `mil.io.bags.fingerprint.bag_digest`.
    """

    slide: str
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BagScores:
    """Content of a score file.

    Attributes:
        name: Slide, or with early fusion patient.
        state: Named state of the slide; unless it is `ok` there are no scores.
        reason: Reason of the state.
        bags: Bag files that were scored as one bag.
        heads: Heads by which they were scored.
        scores: Scores by each head, in the same order.
    """

    name: str
    state: str = "ok"
    reason: str = ""
    bags: tuple[ScoredBag, ...]
    heads: tuple[ScoringHead, ...]
    scores: tuple[HeadScores, ...]
