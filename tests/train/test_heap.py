"""Freed memory that stays with the process."""

import platform
import subprocess
import sys

import pytest

# Ten times three tensors of 8 MB, of which each fault brings 4 kB at least.
CODE = """
import resource
import torch
from mil.train.heap import keep_freed_memory
keep_freed_memory()
def step():
    for tensor in [torch.empty(1 << 21) for _ in range(3)]:
        tensor.fill_(1.0)
# Until the heap has grown to its size.
for _ in range(8):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have own rules")
def test_memory_of_a_step_is_not_returned_and_taken_again():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
