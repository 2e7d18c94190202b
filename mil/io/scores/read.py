"""Read a score file, whole or in part."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from mil.io.checksums import check_arrays
from mil.io.h5 import dataset_of, reading
from mil.io.json_record import read_json_record
from mil.io.scores.checks import check_sizes, check_values
from mil.io.scores.content import BagScores, HeadScores
from mil.io.scores.file import (
    DATASETS,
    EVIDENCE,
    FORMAT,
    LONGEST_RECORD_BYTES,
    VERSION,
    Record,
    damaged,
)
from mil.io.scores.rows import scores_of_head, without_padding
from mil.io.tiles import STATES


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
        left_out = () if evidence else EVIDENCE
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
        check_sizes(arrays, len(record.heads), path)
        check_values(arrays, path)
        scores = tuple(scores_of_head(arrays, number) for number in range(len(record.heads)))
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
        needed = ("logits", "branch_parts")
        arrays = _arrays(file, path, [name for name in DATASETS if name not in needed])
    if "logits" not in arrays:
        raise damaged(path, "it has no logits")
    _, outputs = arrays["logits"].shape
    if arrays["logits"].shape[0] != heads or arrays["branch_parts"].shape[2] != outputs:
        raise damaged(path, "logits and branch_parts are not of the same heads and outputs")
    of_heads = []
    for logits, padded in zip(arrays["logits"], arrays["branch_parts"], strict=True):
        parts = without_padding(padded.astype(np.float64), axis=0)
        of_heads.append(None if parts is None else BranchParts(logits.astype(np.float64), parts))
    return of_heads


_CHECKED = TypeAdapter(Record)


def _record(file: h5py.File, path: Path) -> Record:
    record = read_json_record(
        file, path, _CHECKED.validate_json, max_bytes=LONGEST_RECORD_BYTES, damaged=damaged
    )
    if record.state not in STATES:
        raise damaged(path, f"no state is called {record.state!r}")
    if not record.bags or not record.heads:
        raise damaged(path, "its record names no bag or no head")
    return record


def _arrays(file: h5py.File, path: Path, left_out: Sequence[str]) -> dict[str, np.ndarray]:
    """Known datasets, each with the type of number and the number of axes of ours."""
    arrays = {}
    for name, dataset in DATASETS.items():
        if name not in file or name in left_out:
            continue
        data = dataset_of(file, name, path)
        kind = "b" if name == "selected" else "f"
        if data.dtype.kind != kind or data.ndim != len(dataset.axes.split()):
            raise damaged(path, f"{name} does not hold the numbers that it should")
        arrays[name] = np.asarray(data)
    check_arrays(file, arrays, path)
    return arrays
