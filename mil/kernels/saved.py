"""Nested NamedTuples through `save_for_backward`, which takes flat tensors alone."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from torch import Tensor

T = TypeVar("T", bound=tuple)


def take(kind: type[T], tensors: Iterator[Tensor | None]) -> T:
    """The next fields of a NamedTuple of tensors.

    Args:
        kind: class of the NamedTuple.
        tensors: saved tensors, in the order of its fields; as many are consumed.
    """
    fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    build: Callable[..., T] = kind
    return build(*islice(tensors, len(fields)))
