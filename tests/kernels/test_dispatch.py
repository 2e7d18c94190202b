"""Who computes an operation."""

import pytest
import torch

from mil.kernels.dispatch import choose_backend


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_on_a_cpu_tiled_torch(dtype):
    assert choose_backend("auto", torch.ones(2, dtype=dtype), None, torch.ones(3)) == "cpu"


def test_doubles_are_left_to_the_reference():
    assert choose_backend("auto", torch.ones(2), torch.ones(2, dtype=torch.float64)) == "reference"


def test_a_device_that_neither_knows_gets_the_reference():
    assert choose_backend("auto", torch.ones(2, device="meta")) == "reference"


@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_what_is_asked_for_is_taken(backend):
    assert choose_backend(backend, torch.ones(2, dtype=torch.float64)) == backend
