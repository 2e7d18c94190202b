"""Marks of tests on Triton, which its interpreter runs far slower than a GPU does."""

import pytest
import torch

# Always run where there is a GPU; elsewhere only with `-m slow`.
SLOW_INTERPRETED = () if torch.cuda.is_available() else (pytest.mark.slow,)


def cases_in_types(cases, types):
    """Parameters (*case, type): all cases in the first type, one in each other; the rest slow."""
    first, *_ = types
    return [
        pytest.param(*case, dtype, marks=() if dtype == first or number == 1 else SLOW_INTERPRETED)
        for dtype in types
        for number, case in enumerate(cases)
    ]
