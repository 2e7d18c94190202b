"""Which form of an operation runs, and which numbers stay in float32: one rule for all."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Backend = Literal["auto", "reference", "cpu", "triton"]
Chosen = Literal["reference", "cpu", "triton"]
FAST = (torch.float32, torch.bfloat16, torch.float16)
_reference_alone: ContextVar[bool] = ContextVar("reference_alone", default=False)


@contextmanager
def reference_alone() -> Iterator[None]:
    """Compute every operation by its reference, in plain torch.

    Transformations of torch (`torch.func.vmap`) know how to transform that alone.
    """
    with _reference(alone=True):
        yield


@contextmanager
def every_form() -> Iterator[None]:
    """Compute operations by any form again, within `reference_alone`.

    For a function that leaves a transformation of torch.
    """
    with _reference(alone=False):
        yield


@contextmanager
def _reference(*, alone: bool) -> Iterator[None]:
    token = _reference_alone.set(alone)
    try:
        yield
    finally:
        _reference_alone.reset(token)


def choose_backend(backend: Backend, *tensors: Tensor | None) -> Chosen:
    """Backend that computes an operation on these tensors.

    `auto` is the reference within `reference_alone`; else Triton on a CUDA device,
    tiled torch on a CPU, and the reference on any other device. Float64 goes to the
    reference, the only form that computes in float64.

    Args:
        backend: requested backend; anything but `auto` is returned unchanged.
        tensors: tensors that the operation reads; the first present one names the
            device.
    """
    if backend != "auto":
        return backend
    if _reference_alone.get():
        return "reference"
    present = [tensor for tensor in tensors if tensor is not None]
    if any(tensor.is_floating_point() and tensor.dtype not in FAST for tensor in present):
        return "reference"
    device = present[0].device.type
    if device == "cuda" and find_spec("triton") is not None:
        return "triton"
    return "cpu" if device == "cpu" else "reference"


def at_least_float32(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Float16 and bfloat16 converted to float32; float32 and float64 unchanged.

    Float16 ends at 65504: it has no room for the score of a masked tile (-1e9).
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
