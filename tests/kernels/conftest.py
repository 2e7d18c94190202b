"""Fixtures of the tests of kernels."""

import pytest
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder


@pytest.fixture(scope="session", autouse=True)
def bfloat16_in_the_interpreter():
    """Triton's interpreter keeps bfloat16 as the bits of integers, and would multiply those."""
    plain = InterpreterBuilder.create_dot

    def create_dot(self, left, right, *more):
        wide = (
            self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x
            for x in (left, right)
        )
        return plain(self, *wide, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        yield
