"""Types and shapes of `mil`'s functions are checked while tests run."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeException
from jaxtyping import Float
from torch import Tensor

from mil.bags import join
from mil.io.slides.window import resample
from tests.type_checks import jaxtyped


@jaxtyped(typechecker=beartype)
def added(left: Float[Tensor, " n"], right: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return left + right


@jaxtyped(typechecker=beartype)
def halved(rows: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return rows[::2]


@jaxtyped(typechecker=beartype)
def halved_inside(rows: Float[Tensor, " n"], step: object) -> int:
    @jaxtyped(typechecker=beartype)
    def inner(part: Float[Tensor, " m"], *, step: int) -> Float[Tensor, " m"]:
        return part[::step]

    return len(inner(rows, step=step))


@jaxtyped(typechecker=beartype)
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def test_axes_of_one_name_have_one_length_within_a_call():
    assert added(torch.ones(3), torch.ones(3)).tolist() == [2, 2, 2]
    assert added(torch.ones(4), torch.ones(4)).tolist() == [2, 2, 2, 2]
    with pytest.raises(BeartypeException):
        added(torch.ones(3), torch.ones(1))


def test_results_and_keyword_arguments_are_checked():
    assert halved(torch.ones(1)).tolist() == [1]
    with pytest.raises(BeartypeException):
        halved(torch.ones(4))
    with pytest.raises(BeartypeException):
        added(torch.ones(3), right=torch.ones(3).int())


def test_functions_inside_others_are_checked_by_axes_of_their_own():
    assert halved_inside(torch.ones(4), 1) == 4
    with pytest.raises(BeartypeException):
        halved_inside(torch.ones(4), 2)
    with pytest.raises(BeartypeException):
        halved_inside(torch.ones(4), np.int64(1))


def test_generators_are_checked():
    assert list(numbers(2)) == [0, 1]
    with pytest.raises(Exception, match="numbers"):
        numbers("2")


def test_functions_of_mil_are():
    with pytest.raises(BeartypeException):
        join([torch.ones(3)])
    with pytest.raises(BeartypeException):
        resample(np.ones((4, 4, 3)), 0, 0, 4, 4, (2, 2))
