"""The score file: what each head of one recipe computed of one bag.

Written by `mil score`, the only stage in which a head meets a bag, and read by `mil
evaluate` and `mil heatmap`, which therefore need no torch. All heads of a recipe (its
seeds and folds) lie along the first axis of every dataset. Each dataset states its unit
and its axes; a reader ignores datasets that it does not know, so that further evidence
about tiles can be added without a new version of the format.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter

from mil.errors import FormatError
from mil.io.bags.fingerprint import bag_digest
from mil.io.checksums import check_arrays, write_arrays
from mil.io.h5 import dataset_of, reading, writing
from mil.io.json_record import read_json_record
from mil.io.tables import valid_id
from mil.io.tables.ids import MAX_ID_BYTES
from mil.io.tiles import STATES

FORMAT = "mil.score"
VERSION = 1
# A patient's name that is longer, or is so in quotes, is replaced by its digest.
LONGEST_NAME = MAX_ID_BYTES
# The record of a head takes some 2 kB; a file that claims more than this is not ours.
LONGEST_RECORD_BYTES = 64 << 20
# A sum of float32 shares is off by less than 1e-5; damaged bytes are off by far more.
SUM_TOLERANCE = 1e-3


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


@dataclass(frozen=True)
class _Record:
    """What the file says in words, as JSON: attributes of HDF5 end at 64 kB."""

    name: str
    state: str
    reason: str
    bags: tuple[ScoredBag, ...]
    heads: tuple[ScoringHead, ...]


class _Dataset(NamedTuple):
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
_DATASETS = {
    "logits": _Dataset("head output", _LOGIT, "uncalibrated"),
    "predictions": _Dataset("head column", _COLUMN, "calibrated"),
    "attention": _Dataset("head tile", _SHARE, "as drawn in heatmaps"),
    # A row is NaN where a head has no mixing layers.
    "rollout": _Dataset("head tile", _SHARE, _ROLLOUT),
    "branch_logits": _Dataset("head logit_branch output", _LOGIT, "of each branch"),
    "branch_parts": _Dataset("head part output", _LOGIT, "of each branch in the logits"),
    "branch_attention": _Dataset("head tile branch", _SHARE, "of each branch or class"),
    # Rows are NaN where a head has fewer branches.
    "ablated_logits": _Dataset("head ablated output", _LOGIT, "without each branch"),
    # Only where the branches are others than those of `branch_attention`.
    "ablated_attention": _Dataset("head tile ablated", _SHARE, "of the branch left out"),
    "last_logits": _Dataset("head output", _LOGIT, _LAST),
    "last_predictions": _Dataset("head column", _COLUMN, _LAST),
    # A row is all false where a head selects no tiles.
    "selected": _Dataset("head tile", _BOOL, "tiles that the head predicts from"),
    # Rows are NaN where there is no such selection.
    "full_logits": _Dataset("head output", _LOGIT, "from all tiles"),
    "full_predictions": _Dataset("head column", _COLUMN, "from all tiles"),
    "random_logits": _Dataset("head draw output", _LOGIT, _RANDOM),
    "random_predictions": _Dataset("head draw column", _COLUMN, _RANDOM),
    "rest_logits": _Dataset("head output", _LOGIT, "from the tiles that were not selected"),
    "rest_predictions": _Dataset("head column", _COLUMN, "from the tiles that were not selected"),
    # Rows are NaN where a head has no such evidence.
    "alone": _Dataset("head tile output", _LOGIT, "logits of a bag that is this tile alone"),
    "effect": _Dataset("head tile output", _LOGIT, "logits lost when this tile is removed"),
    # Numbers of valid tiles, from 0; NaN where `effect` is exact.
    "removed_tiles": _Dataset("head removed", "number", "tiles removed to check `effect`"),
    "removed_effect": _Dataset("head removed output", _LOGIT, "logits lost without the tile"),
    "completeness_error": _Dataset("head one", "fraction", "of integrated gradients"),
    "flipped_logits": _Dataset("head kind order share output", _LOGIT, _FLIPPED),
    "flipped_rollout": _Dataset("head order share output", _LOGIT, "the same by the rollout"),
}
# fmt: on
_NEEDED = ("logits", "predictions", "attention")
# Lengths of axes that are the same in every file.
_LENGTHS = {"one": 1, "kind": len(FLIPPED_KINDS), "order": 2, "share": len(FLIP_SHARES)}
# Datasets with a row for each tile, which are read only where they are asked for.
_EVIDENCE = ("alone", "effect", "removed_tiles", "removed_effect", "completeness_error")


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


def write_scores(path: Path, scores: BagScores, *, made_from: str = "") -> None:
    """Write a score file whole or not at all: contiguous, uncompressed, with checksums.

    Args:
        path: File to write.
        scores: Scores of a bag.
        made_from: Digest of what they depend on; see `mil.io.provenance`.
    """
    record = _Record(scores.name, scores.state, scores.reason, scores.bags, scores.heads)
    text = json.dumps(asdict(record)).encode()
    arrays = {"record": np.frombuffer(text, np.uint8)}
    rows_of_heads = [_rows(head_scores) for head_scores in scores.scores]
    for name in _DATASETS:
        stacked = _stacked([rows.get(name) for rows in rows_of_heads])
        if stacked is not None:
            arrays[name] = stacked
    with writing(path, FORMAT, VERSION, made_from=made_from) as file:
        write_arrays(file, arrays)
        file["record"].attrs.update(unit="UTF-8", axes="byte", meaning="bags and heads, as JSON")
        for name, dataset in _DATASETS.items():
            if name in arrays:
                file[name].attrs.update(dataset._asdict())
        if "flipped_logits" in arrays:
            file["flipped_logits"].attrs.update(kinds=FLIPPED_KINDS, shares=FLIP_SHARES)


def _rows(scores: HeadScores) -> dict[str, np.ndarray | None]:
    """Rows of one head, by dataset."""
    rows = {
        "logits": scores.logits,
        "predictions": scores.predictions,
        "attention": scores.attention,
        "rollout": scores.rollout,
        "branch_logits": scores.branch_logits,
        "branch_parts": scores.branch_parts,
        "branch_attention": scores.branch_attention,
    }
    if scores.ablation is not None:
        rows |= _ablation_rows(scores.ablation, scores.branch_attention)
    if scores.evidence is not None:
        rows |= _evidence_rows(scores.evidence)
    rows["flipped_logits"] = scores.flipped_logits
    rows["flipped_rollout"] = scores.flipped_rollout
    outputs = {"last": scores.last}
    selection = scores.selection
    if selection is not None:
        rows["selected"] = selection.selected
        outputs |= {"full": selection.full, "random": selection.random, "rest": selection.rest}
    for name, values in outputs.items():
        if values is not None:
            rows[f"{name}_logits"] = values.logits
            rows[f"{name}_predictions"] = values.predictions
    return rows


def _ablation_rows(
    ablation: BranchAblation, branch_attention: np.ndarray | None
) -> dict[str, np.ndarray | None]:
    attention = ablation.attention
    is_known = (
        attention is not None
        and branch_attention is not None
        and np.array_equal(attention, branch_attention)
    )
    return {
        "ablated_logits": ablation.logits,
        "ablated_attention": None if is_known else attention,
    }


def _evidence_rows(evidence: TileEvidence) -> dict[str, np.ndarray | None]:
    error = evidence.completeness_error
    return {
        "alone": evidence.alone,
        "effect": evidence.effect,
        "removed_tiles": evidence.removed_tiles,
        "removed_effect": evidence.removed_effect,
        "completeness_error": None if error is None else np.array([error]),
    }


def _stacked(rows: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Rows of all heads, NaN or false for a head without any; None if no head has any."""
    known = [row for row in rows if row is not None]
    if not known:
        return None
    if known[0].dtype == bool:
        return np.stack([np.zeros_like(known[0]) if row is None else row for row in rows])
    # Ensembles of a recipe may average more members in one fold than in another, and have
    # as many more branches.
    shape = np.max([row.shape for row in known], axis=0)
    stacked = np.full((len(rows), *shape), np.nan, np.float32)
    for padded, row in zip(stacked, rows, strict=True):
        if row is not None:
            padded[tuple(slice(length) for length in row.shape)] = row
    return stacked


def read_scores(path: Path | str, *, branches: bool = False, evidence: bool = False) -> BagScores:
    """Read a score file.

    Args:
        path: Score file.
        branches: Whether to read the attention of each branch, the largest datasets.
        evidence: Whether to read the evidence of each tile.

    Raises:
        FormatError: the file is missing, damaged, or holds something that cannot be.
    """
    path = Path(path)
    with reading(path, FORMAT, VERSION) as file:
        record = _record(file, path)
        left_out = () if evidence else _EVIDENCE
        if not branches:
            left_out = (*left_out, "branch_attention", "ablated_attention")
        stored = _arrays(file, path, left_out)
    arrays = {
        name: array if array.dtype == bool else array.astype(np.float64)
        for name, array in stored.items()
    }
    if record.state != "ok":
        scores: tuple[HeadScores, ...] = ()
    else:
        _check_sizes(arrays, len(record.heads), path)
        _check_values(arrays, path)
        scores = tuple(_of_head(arrays, number) for number in range(len(record.heads)))
    return BagScores(
        name=record.name,
        state=record.state,
        reason=record.reason,
        bags=record.bags,
        heads=record.heads,
        scores=scores,
    )


def read_records_of(path: Path) -> list[str]:
    """Texts of `recipe.json` of the heads that scored a bag, without the scores.

    Raises:
        FormatError: the file is missing or damaged.
    """
    with reading(path, FORMAT, VERSION) as file:
        return [head.record for head in _record(file, path).heads]


class BranchParts(NamedTuple):
    """Logits of a head, and the parts of its branches in them."""

    logits: Float[np.ndarray, " outputs"]
    parts: Float[np.ndarray, "parts outputs"]


def read_branch_parts(path: Path) -> list[BranchParts | None]:
    """Parts of the branches in the logits of each head, without the maps of tiles.

    Args:
        path: Score file.

    Returns:
        None for a head whose logits are no such sum; empty where none are, or the slide was
        not scored.

    Raises:
        FormatError: the file is missing or damaged.
    """
    with reading(path, FORMAT, VERSION) as file:
        heads = len(_record(file, path).heads)
        if "branch_parts" not in file:
            return []
        wanted = ("logits", "branch_parts")
        arrays = _arrays(file, path, [name for name in _DATASETS if name not in wanted])
    if "logits" not in arrays:
        raise _damaged(path, "it has no logits")
    _, outputs = arrays["logits"].shape
    if arrays["logits"].shape[0] != heads or arrays["branch_parts"].shape[2] != outputs:
        raise _damaged(path, "logits and branch_parts are not of the same heads and outputs")
    found = []
    for logits, padded in zip(arrays["logits"], arrays["branch_parts"], strict=True):
        parts = _without_padding(padded.astype(np.float64), axis=0)
        found.append(None if parts is None else BranchParts(logits.astype(np.float64), parts))
    return found


_CHECKED = TypeAdapter(_Record)


def _record(file: h5py.File, path: Path) -> _Record:
    record = read_json_record(
        file, path, _CHECKED.validate_json, max_bytes=LONGEST_RECORD_BYTES, damaged=_damaged
    )
    if record.state not in STATES:
        raise _damaged(path, f"no state is called {record.state!r}")
    if not record.bags or not record.heads:
        raise _damaged(path, "its record names no bag or no head")
    return record


def _arrays(file: h5py.File, path: Path, left_out: Sequence[str]) -> dict[str, np.ndarray]:
    """Known datasets, each with the type of number and the number of axes of ours."""
    arrays = {}
    for name, dataset in _DATASETS.items():
        if name not in file or name in left_out:
            continue
        data = dataset_of(file, name, path)
        kind = "b" if name == "selected" else "f"
        if data.dtype.kind != kind or data.ndim != len(dataset.axes.split()):
            raise _damaged(path, f"{name} does not hold the numbers that it should")
        arrays[name] = np.asarray(data)
    check_arrays(file, arrays, path)
    return arrays


def _check_sizes(arrays: dict[str, np.ndarray], heads: int, path: Path) -> None:
    """Refuse datasets that differ in the length of an axis, such as `tile`."""
    lengths = {"head": heads, **_LENGTHS}
    for name in _NEEDED:
        if name not in arrays:
            raise _damaged(path, f"it has no {name}")
    for name, array in arrays.items():
        for axis, length in zip(_DATASETS[name].axes.split(), array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                usual = lengths[axis]
                where = "not" if axis in _LENGTHS else "others"
                raise _damaged(path, f"{name} has {length} rows along {axis}, {where} {usual}")


def _check_values(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Refuse values that no head gives: contiguous data has no checksum of its own."""
    for name in _NEEDED:
        if not np.isfinite(arrays[name]).all():
            raise _damaged(path, f"{name} holds values that are not numbers")
    attention = arrays["attention"]
    sums = attention.sum(1)
    if (attention < 0).any() or (np.abs(sums - 1) > SUM_TOLERANCE).any():
        raise _damaged(path, "its attention is no share of 1")
    rollout = arrays.get("rollout")
    if rollout is not None and not _shares_or_absent(rollout):
        raise _damaged(path, "its rollout is no share of 1")
    _check_evidence(arrays, path)
    _check_branches(arrays, path)
    for name in ("flipped_logits", "flipped_rollout"):
        flipped = arrays.get(name)
        # NaN: no tile would be left, but all outputs of a share are known, or none.
        if flipped is not None and not _whole_or_absent(flipped.reshape(-1, flipped.shape[-1])):
            raise _damaged(path, f"{name} holds values that are not numbers")


def _check_branches(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Refuse branches that are there in part: metrics are computed of them."""
    by_branch = {
        "ablated_logits": arrays.get("ablated_logits"),
        "branch_attention": arrays.get("branch_attention"),
        "ablated_attention": arrays.get("ablated_attention"),
    }
    for name, values in by_branch.items():
        if values is None:
            continue
        rows = values if name == "ablated_logits" else values.transpose(0, 2, 1)
        if not _whole_or_absent(rows.reshape(-1, rows.shape[-1])):
            raise _damaged(path, f"{name} holds values that are not numbers")


def _shares_or_absent(rows: np.ndarray) -> bool:
    """Whether each row is a share of 1, or all NaN."""
    if not _whole_or_absent(rows):
        return False
    known = rows[np.isfinite(rows).all(1)]
    return bool((known >= 0).all() and (np.abs(known.sum(1) - 1) <= SUM_TOLERANCE).all())


def _check_evidence(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Refuse evidence that is there in part."""
    for one, other in (("alone", "effect"), ("removed_tiles", "removed_effect")):
        if (one in arrays) != (other in arrays):
            names = (one, other) if one in arrays else (other, one)
            raise _damaged(path, f"it has {names[0]}, but no {names[1]}")
    for name in _EVIDENCE:
        if name in arrays and not _whole_or_absent(arrays[name]):
            raise _damaged(path, f"{name} holds values that are not numbers")
    removed = arrays.get("removed_tiles")
    if removed is not None:
        known = removed[~np.isnan(removed)]
        tiles = arrays["attention"].shape[1]
        if ((known < 0) | (known >= tiles) | (known != np.floor(known))).any():
            raise _damaged(path, f"removed_tiles are not numbers of its {tiles} tiles")
    error = arrays.get("completeness_error")
    if error is not None and (error < 0).any():
        raise _damaged(path, "its completeness_error is negative")


def _whole_or_absent(rows: np.ndarray) -> bool:
    """Whether each row along the first axis is finite, or all NaN."""
    flat = rows.reshape(len(rows), -1)
    known = np.isfinite(flat).all(1)
    return bool((known | np.isnan(flat).all(1)).all())


def _of_head(arrays: dict[str, np.ndarray], number: int) -> HeadScores:
    """The rows of one head."""
    rows = {name: array[number] for name, array in arrays.items()}
    return HeadScores(
        logits=rows["logits"],
        predictions=rows["predictions"],
        attention=rows["attention"],
        rollout=_known(rows.get("rollout")),
        branch_logits=_without_padding(rows.get("branch_logits"), axis=0),
        branch_parts=_without_padding(rows.get("branch_parts"), axis=0),
        branch_attention=_without_padding(rows.get("branch_attention"), axis=1),
        ablation=_ablation(rows),
        last=_outputs(rows, "last"),
        selection=_selection(rows),
        evidence=_evidence(rows),
        flipped_logits=_known(rows.get("flipped_logits")),
        flipped_rollout=_known(rows.get("flipped_rollout")),
    )


def _ablation(rows: dict[str, np.ndarray]) -> BranchAblation | None:
    logits = _without_padding(rows.get("ablated_logits"), axis=0)
    if logits is None:
        return None
    attention = _without_padding(rows.get("ablated_attention"), axis=1)
    if attention is None:
        attention = _without_padding(rows.get("branch_attention"), axis=1)
    is_of_these = attention is not None and attention.shape[1] == len(logits)
    return BranchAblation(logits, attention if is_of_these else None)


def _evidence(rows: dict[str, np.ndarray]) -> TileEvidence | None:
    alone = _known(rows.get("alone"))
    effect = _known(rows.get("effect"))
    if alone is None or effect is None:
        return None
    tiles = _known(rows.get("removed_tiles"))
    error = _known(rows.get("completeness_error"))
    return TileEvidence(
        alone=alone,
        effect=effect,
        removed_tiles=None if tiles is None else tiles.astype(np.int64),
        removed_effect=_known(rows.get("removed_effect")),
        completeness_error=None if error is None else float(error[0]),
    )


def _known(rows: np.ndarray | None) -> np.ndarray | None:
    """Rows of a head; None where it has none."""
    return None if rows is None or np.isnan(rows).all() else rows


def _without_padding(rows: np.ndarray | None, *, axis: int) -> np.ndarray | None:
    """Branches of a head, which has fewer than others of its recipe, or none."""
    if rows is None:
        return None
    is_branch = ~np.isnan(rows).all(1 - axis)
    return rows.compress(is_branch, axis) if is_branch.any() else None


def _selection(rows: dict[str, np.ndarray]) -> TileSelection | None:
    selected = rows.get("selected")
    # A head that selects tiles selects at least one.
    if selected is None or not selected.any():
        return None
    return TileSelection(
        selected=selected,
        full=_outputs(rows, "full"),
        random=_outputs(rows, "random"),
        rest=_outputs(rows, "rest"),
    )


def _outputs(rows: dict[str, Any], name: str) -> Outputs | None:
    logits = rows.get(f"{name}_logits")
    predicted = rows.get(f"{name}_predictions")
    if logits is None or predicted is None or np.isnan(predicted).all():
        return None
    return Outputs(logits, predicted)


def check_bags(scores: BagScores, path: Path, bag_paths: Iterable[Path]) -> None:
    """Refuse scores of other bags than those they are used with.

    Args:
        scores: Content of a score file.
        path: The score file.
        bag_paths: Bag files that should have been scored, in order.

    Raises:
        FormatError: a bag was made anew since, or the scores are of others.
    """
    paths = list(bag_paths)
    if len(paths) != len(scores.bags):
        raise FormatError(
            f"{path}: was computed from {len(scores.bags)} bags, not from {len(paths)}; delete it "
            "and run `mil score` again"
        )
    for bag_path, bag in zip(paths, scores.bags, strict=True):
        if bag.slide != bag_path.stem:
            raise FormatError(
                f"{path}: holds the scores of {bag.slide}, not of {bag_path.stem}; give the score "
                "file and the bag of one slide, or delete it and run `mil score` again"
            )
        if bag_digest(bag_path) != bag.digest:
            raise FormatError(
                f"{path}: was computed from another bag than {bag_path} is now; delete it and run "
                "`mil score` again"
            )


def check_tiles(scores: BagScores, path: Path, tiles: int) -> None:
    """Refuse attention of fewer or more tiles than the bag has.

    Args:
        scores: Content of a score file.
        path: The score file.
        tiles: Number of valid tiles of the bag.

    Raises:
        FormatError: the numbers differ.
    """
    for head in scores.scores:
        if len(head.attention) != tiles:
            raise _damaged(path, f"has attention of {len(head.attention)} tiles, not of {tiles}")


def _damaged(path: Path, reason: str) -> FormatError:
    return FormatError(f"{path}: {reason}; delete it and run `mil score` again")
