"""Sizes and values that no head gives, refused when a score file is read."""

from pathlib import Path

import numpy as np

from mil.io.scores.file import DATASETS, EVIDENCE, LENGTHS, NEEDED, damaged

# A sum of float32 shares is off by less than 1e-5; damaged bytes are off by far more.
SUM_TOLERANCE = 1e-3


def check_sizes(arrays: dict[str, np.ndarray], heads: int, path: Path) -> None:
    """Refuse datasets that differ in the length of an axis, such as `tile`."""
    lengths = {"head": heads, **LENGTHS}
    for name in NEEDED:
        if name not in arrays:
            raise damaged(path, f"it has no {name}")
    for name, array in arrays.items():
        for axis, length in zip(DATASETS[name].axes.split(), array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                usual = lengths[axis]
                where = "not" if axis in LENGTHS else "others"
                raise damaged(path, f"{name} has {length} rows along {axis}, {where} {usual}")


def check_values(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Refuse values that no head gives: contiguous data has no checksum of its own."""
    for name in NEEDED:
        if not np.isfinite(arrays[name]).all():
            raise damaged(path, f"{name} holds values that are not numbers")
    attention = arrays["attention"]
    sums = attention.sum(1)
    if (attention < 0).any() or (np.abs(sums - 1) > SUM_TOLERANCE).any():
        raise damaged(path, "its attention is no share of 1")
    rollout = arrays.get("rollout")
    if rollout is not None and not _shares_or_absent(rollout):
        raise damaged(path, "its rollout is no share of 1")
    _check_evidence(arrays, path)
    _check_branches(arrays, path)
    for name in ("flipped_logits", "flipped_rollout"):
        flipped = arrays.get(name)
        # NaN: no tile would be left, but all outputs of a share are known, or none.
        if flipped is not None and not _whole_or_absent(flipped.reshape(-1, flipped.shape[-1])):
            raise damaged(path, f"{name} holds values that are not numbers")


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
            raise damaged(path, f"{name} holds values that are not numbers")


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
            raise damaged(path, f"it has {names[0]}, but no {names[1]}")
    for name in EVIDENCE:
        if name in arrays and not _whole_or_absent(arrays[name]):
            raise damaged(path, f"{name} holds values that are not numbers")
    removed = arrays.get("removed_tiles")
    if removed is not None:
        known = removed[~np.isnan(removed)]
        tiles = arrays["attention"].shape[1]
        if ((known < 0) | (known >= tiles) | (known != np.floor(known))).any():
            raise damaged(path, f"removed_tiles are not numbers of its {tiles} tiles")
    error = arrays.get("completeness_error")
    if error is not None and (error < 0).any():
        raise damaged(path, "its completeness_error is negative")


def _whole_or_absent(rows: np.ndarray) -> bool:
    """Whether each row along the first axis is finite, or all NaN."""
    flat = rows.reshape(len(rows), -1)
    known = np.isfinite(flat).all(1)
    return bool((known | np.isnan(flat).all(1)).all())
