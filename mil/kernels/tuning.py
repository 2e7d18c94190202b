"""Block sizes that were measured on a chip, in place of those that were reckoned.

`mil bench gpu --tuned` writes `tuned.json`, a file of the package and no cache: the same
installation launches the same kernels everywhere.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files

import torch

Blocks = Mapping[str, int]
Table = Mapping[str, Mapping[str, Blocks]]  # by chip, then by key

_tried: ContextVar[Mapping[str, Blocks] | None] = ContextVar("tried", default=None)


def tuned(kernel: str, dtype: torch.dtype, width: int, device: torch.device) -> Blocks:
    """Measured block sizes, warps and stages of a launch; empty where none were measured.

    Args:
        kernel: Name of the kernel, such as `gated_scores.forward`.
        dtype: Type of the rows.
        width: Length of a row.
        device: Device of the launch.
    """
    trial = _tried.get()
    if trial is not None and kernel in trial:
        return trial[kernel]
    if device.type != "cuda":
        return {}
    return table().get(chip(device), {}).get(key(kernel, dtype, width), {})


def key(kernel: str, dtype: torch.dtype, width: int) -> str:
    """Key of a launch in the table: widths up to the same power of two share one."""
    return f"{kernel} {str(dtype).removeprefix('torch.')} {1 << max(width - 1, 0).bit_length()}"


def chip(device: torch.device) -> str:
    """Key of a chip in the table, such as `sm_90`."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@cache
def table() -> Table:
    """Content of `tuned.json`."""
    content: Table = json.loads(files("mil.kernels").joinpath("tuned.json").read_text("utf-8"))
    return content


@contextmanager
def trying(kernel: str, blocks: Blocks) -> Iterator[None]:
    """Launch a kernel with these block sizes."""
    token = _tried.set({**(_tried.get() or {}), kernel: blocks})
    try:
        yield
    finally:
        _tried.reset(token)
